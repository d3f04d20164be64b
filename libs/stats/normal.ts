/** The normal distribution, exact in both tails. */
import { gammaQ } from './gamma.ts'

/** Probability that a standard normal is at most `z`. */
export function normalCdf(z: number): number {
  return normalSf(-z)
}

/** Probability that a standard normal is above `z`. */
export function normalSf(z: number): number {
  if (Number.isNaN(z)) return Number.NaN
  const tail = 0.5 * gammaQ(0.5, 0.5 * z * z)
  return z >= 0 ? tail : 1 - tail
}

/** The `z` that a standard normal stays below with `probability`, 0 to 1; infinite at the ends. */
export function normalQuantile(probability: number): number {
  if (!(probability >= 0 && probability <= 1)) return Number.NaN
  if (probability > 0.5) return -normalQuantile(1 - probability)
  if (probability === 0) return Number.NEGATIVE_INFINITY
  if (probability === 0.5) return 0
  let z = firstGuess(probability)
  for (let step = 0; step < 3; step++) {
    const error = (normalCdf(z) - probability) / density(z)
    z -= error / (1 + 0.5 * z * error)
  }
  return z
}

/** Density of the standard normal. */
function density(z: number): number {
  return Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI)
}

/** Lower-tail quantile to 4.5e-4 (Abramowitz and Stegun 26.2.23), refined by Halley's method above. */
function firstGuess(probability: number): number {
  const t = Math.sqrt(-2 * Math.log(probability))
  return (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308))) - t
}
