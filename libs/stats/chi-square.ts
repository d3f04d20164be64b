/** Chi-square, central and not, and gamma: tails, quantiles, and the noncentrality that a statistic allows. */
import { gammaP, gammaQ, logGammaQ, logPoisson } from './gamma.ts'
import { findRoot } from './root.ts'

/** Probability that a chi-square with `degreesOfFreedom` is at most `x`. */
export function chiSquareCdf(x: number, degreesOfFreedom: number): number {
  return gammaP(degreesOfFreedom / 2, x / 2)
}

/** Probability that a chi-square with `degreesOfFreedom` is above `x`. */
export function chiSquareSf(x: number, degreesOfFreedom: number): number {
  return gammaQ(degreesOfFreedom / 2, x / 2)
}

/** The value that a chi-square stays below with `probability`. */
export function chiSquareQuantile(probability: number, degreesOfFreedom: number): number {
  if (!(probability >= 0 && probability <= 1)) return Number.NaN
  if (probability > 0.5) return chiSquareUpperQuantile(1 - probability, degreesOfFreedom)
  if (probability === 0) return 0
  const target = Math.log(probability)
  const excess = (y: number) => Math.log(gammaP(degreesOfFreedom / 2, Math.exp(y))) - target
  return 2 * Math.exp(findRootFrom(excess, Math.log(degreesOfFreedom / 2)))
}

/** The value that a chi-square exceeds with `probability`; exact for probabilities however small. */
export function chiSquareUpperQuantile(probability: number, degreesOfFreedom: number): number {
  return gammaUpperQuantile(probability, degreesOfFreedom / 2, 2)
}

/** Probability that a gamma variable of `shape` and `scale` is above `x`. */
export function gammaSf(x: number, shape: number, scale: number): number {
  return gammaQ(shape, x / scale)
}

/** Natural logarithm of `gammaSf`, also where that underflows. */
export function logGammaSf(x: number, shape: number, scale: number): number {
  return logGammaQ(shape, x / scale)
}

/** The value that a gamma variable of `shape` and `scale` exceeds with `probability`. */
export function gammaUpperQuantile(probability: number, shape: number, scale: number): number {
  if (!(probability >= 0 && probability <= 1)) return Number.NaN
  if (probability === 0) return Number.POSITIVE_INFINITY
  if (probability === 1) return 0
  const target = Math.log(probability)
  const excess = (y: number) => target - logGammaQ(shape, Math.exp(y))
  return scale * Math.exp(findRootFrom(excess, Math.log(shape)))
}

/** Root of an increasing function of the logarithm, bracketed by growing steps from `start`. */
function findRootFrom(f: (y: number) => number, start: number): number {
  let step = 1
  if (f(start) < 0) {
    let low = start
    while (f(low + step) < 0) {
      low += step
      step *= 2
    }
    return findRoot(f, low, low + step)
  }
  let high = start
  while (f(high - step) > 0) {
    high -= step
    step *= 2
  }
  return findRoot(f, high - step, high)
}

/** Probability that a chi-square with `degreesOfFreedom` and `noncentrality` is at most `x`. */
export function noncentralChiSquareCdf(x: number, degreesOfFreedom: number, noncentrality: number): number {
  if (!(x > 0)) return 0
  if (noncentrality === 0) return chiSquareCdf(x, degreesOfFreedom)
  const [first, last] = mixtureRange(noncentrality / 2, FULL_REACH)
  // P(a - 1, x) = P(a, x) + x^(a-1) e^-x / Γ(a): only sums of positive terms, from the last shape down.
  let lower = gammaP(degreesOfFreedom / 2 + last, x / 2)
  let sum = 0
  for (let j = last; j >= first; j--) {
    sum += Math.exp(logPoisson(j, noncentrality / 2)) * lower
    if (j > first) lower += Math.exp(logPoisson(degreesOfFreedom / 2 + j - 1, x / 2))
  }
  return Math.min(1, sum)
}

/** Probability that a chi-square with `degreesOfFreedom` and `noncentrality` is above `x`. */
export function noncentralChiSquareSf(x: number, degreesOfFreedom: number, noncentrality: number): number {
  if (!(x > 0)) return 1
  if (noncentrality === 0) return chiSquareSf(x, degreesOfFreedom)
  const [first, last] = mixtureRange(noncentrality / 2, FULL_REACH)
  let upper = gammaQ(degreesOfFreedom / 2 + first, x / 2)
  let sum = 0
  for (let j = first; j <= last; j++) {
    sum += Math.exp(logPoisson(j, noncentrality / 2)) * upper
    upper += Math.exp(logPoisson(degreesOfFreedom / 2 + j, x / 2))
  }
  return Math.min(1, sum)
}

/** The same to about 1e-12 absolute: each term from the one before, a hundred times faster. */
function roughNoncentralSf(x: number, degreesOfFreedom: number, noncentrality: number): number {
  if (noncentrality === 0) return chiSquareSf(x, degreesOfFreedom)
  const half = degreesOfFreedom / 2
  const [first, last] = mixtureRange(noncentrality / 2, BULK_REACH)
  let upper = gammaQ(half + first, x / 2)
  let step = Math.exp(logPoisson(half + first, x / 2))
  let weight = Math.exp(logPoisson(first, noncentrality / 2))
  let sum = 0
  for (let j = first; j <= last; j++) {
    sum += weight * upper
    upper += step
    step *= x / 2 / (half + j + 1)
    weight *= noncentrality / 2 / (j + 1)
  }
  return Math.min(1, sum)
}

/**
 * The noncentrality at which a chi-square exceeds `x` with `probability`, 0 when it does so with none. With probability
 * 0.025 and 0.975 these are the ends of the 95 % interval of a statistic's noncentrality.
 */
export function noncentralityExceeding(x: number, degreesOfFreedom: number, probability: number): number {
  if (chiSquareSf(x, degreesOfFreedom) >= probability) return 0
  const target = Math.log(probability)
  const excess = (noncentrality: number) =>
    Math.log(Math.max(roughNoncentralSf(x, degreesOfFreedom, noncentrality), Number.MIN_VALUE)) - target
  let high = Math.max(1, x)
  while (excess(high) < 0) high *= 2
  return findRoot(excess, 0, high, 1e-10)
}

/** How far from its mean a Poisson mixture is summed, in standard deviations and in counts. */
interface Reach {
  readonly deviations: number
  readonly counts: number
}

/** All but e^-700 of the weight, beyond which no double can show it. */
const FULL_REACH: Reach = { deviations: 40, counts: 200 }
/** All but 1e-16 of the weight, for probabilities that are themselves not small. */
const BULK_REACH: Reach = { deviations: 9, counts: 15 }

function mixtureRange(mean: number, { deviations, counts }: Reach): [first: number, last: number] {
  const reach = deviations * Math.sqrt(mean) + counts
  return [Math.max(0, Math.floor(mean - reach)), Math.ceil(mean + reach)]
}
