/**
 * Do two samples of counts come from the same distribution, and how far apart are they? Both samples are random: the
 * reference is never taken for the truth. What is small is merged by a rule that looks only at both samples together,
 * so it does not favour either answer.
 */
import { chiSquareSf, noncentralityExceeding } from './chi-square.ts'
import type { Interval } from './intervals.ts'

/** Cells in which the smaller sample is expected to have fewer rows than this are merged. */
const EXPECTED_MIN = 5

/** A two-sample test and the size of the difference. */
export interface TwoSampleResult {
  /** Chi-square distributed when both samples are independent draws of one distribution. */
  readonly statistic: number
  /** Cells after merging, less one; 0 when nothing can differ. */
  readonly degreesOfFreedom: number
  /** Probability of a statistic as large when rows are independent draws of one distribution. */
  readonly pValue: number
  /** n m / (n + m): the statistic grows by this times the squared difference. */
  readonly effectiveSize: number
  /** Effect as observed, of which a part is chance; see `effectOf`. */
  readonly effect: number
}

/**
 * Pearson's test: sum over cells of (p - q)^2 / pooled share, over (1/n + 1/m). Counts may be weighted, scaled to their
 * effective size. Small cells that are still small together are merged with the next smallest, whatever they hold.
 */
export function twoSampleChiSquare(a: readonly number[], b: readonly number[]): TwoSampleResult {
  return compare(mergeSmallCells(a, b, true), a, b, (inA, inB, n, m) => {
    const pooled = (inA + inB) / (n + m)
    return (((inA / n - inB / m) ** 2 / pooled) * n * m) / (n + m)
  })
}

/**
 * The likelihood ratio test (G): 2 sum of observed ln(observed / expected), over both samples. Like Pearson's where all
 * cells are well filled; but it bears one small cell, so that what is rare in a large sample and frequent in a small one
 * (a new category, values gone missing) counts in full, while one odd row does not alarm.
 */
export function twoSampleLikelihoodRatio(a: readonly number[], b: readonly number[]): TwoSampleResult {
  return compare(mergeSmallCells(a, b, false), a, b, (inA, inB, n, m) => {
    const pooled = (inA + inB) / (n + m)
    return 2 * (surprise(inA, n * pooled) + surprise(inB, m * pooled))
  })
}

function surprise(observed: number, expected: number): number {
  return observed > 0 ? observed * Math.log(observed / expected) : 0
}

type Term = (inA: number, inB: number, n: number, m: number) => number

function compare(
  cells: readonly (readonly [number, number])[],
  a: readonly number[],
  b: readonly number[],
  term: Term,
): TwoSampleResult {
  const [n, m] = [total(a), total(b)]
  const nothing = { statistic: 0, degreesOfFreedom: 0, pValue: 1, effectiveSize: 0, effect: 0 }
  if (!(n > 0 && m > 0)) return nothing
  const effectiveSize = (n * m) / (n + m)
  if (cells.length < 2) return { ...nothing, effectiveSize }
  const statistic = Math.max(
    0,
    cells.reduce((sum, [inA, inB]) => sum + term(inA, inB, n, m), 0),
  )
  const degreesOfFreedom = cells.length - 1
  return {
    statistic,
    degreesOfFreedom,
    pValue: chiSquareSf(statistic, degreesOfFreedom),
    effectiveSize,
    effect: effectOf(cells),
  }
}

/**
 * The 95 % interval of an effect, by the noncentral chi-square: the differences that an observed one of this size is
 * consistent with, each row an independent draw.
 */
export function effectInterval(result: TwoSampleResult, confidence = 0.95): Interval {
  const { effect, effectiveSize, degreesOfFreedom } = result
  if (degreesOfFreedom === 0) return { low: 0, high: effectiveSize === 0 ? 1 : 0 }
  const noncentrality = 4 * effect * effect * effectiveSize
  const end = (probability: number) =>
    Math.min(1, Math.sqrt(noncentralityExceeding(noncentrality, degreesOfFreedom, probability) / effectiveSize) / 2)
  return { low: end((1 - confidence) / 2), high: end((1 + confidence) / 2) }
}

/** The smallest true effect with which a test at `criticalValue` answers "different" with probability `power`. */
export function detectableEffect(
  criticalValue: number,
  degreesOfFreedom: number,
  effectiveSize: number,
  power = 0.9,
): number {
  if (degreesOfFreedom === 0 || effectiveSize === 0) return 1
  const noncentrality = noncentralityExceeding(criticalValue, degreesOfFreedom, power)
  return Math.min(1, Math.sqrt(noncentrality / effectiveSize) / 2)
}

/**
 * Distance of two distributions: the square root of half their triangular discrimination, sum of (p - q)^2 / (2 (p + q)).
 * 0 when they are equal, 1 when they have nothing in common, a metric (Endres and Schindelin for its kin), at least the
 * share of rows that would have to move to another cell, at most the square root of it; and 4 n m / (n + m) times its
 * square is chi-square distributed, which gives it an interval. Half a standard deviation of a normal is 0.24.
 */
export function effectOf(cells: readonly (readonly [number, number])[]): number {
  let [n, m] = [0, 0]
  for (const [inA, inB] of cells) {
    n += inA
    m += inB
  }
  let sum = 0
  for (const [inA, inB] of cells) {
    const [p, q] = [inA / n, inB / m]
    if (p + q > 0) sum += (p - q) ** 2 / (2 * (p + q))
  }
  return Math.min(1, Math.sqrt(sum))
}

/** Cells with enough expected rows in the smaller sample, the others put together; empty ones are left out. */
function mergeSmallCells(a: readonly number[], b: readonly number[], noneSmall: boolean): [number, number][] {
  if (a.length !== b.length) throw new RangeError(`${a.length} cells against ${b.length}`)
  const [n, m] = [total(a), total(b)]
  const expectedShare = Math.min(n, m) / (n + m)
  const isSmall = ([inA, inB]: readonly [number, number]) => (inA + inB) * expectedShare < EXPECTED_MIN
  const cells = a.map((inA, cell): [number, number] => [inA, b[cell] ?? 0]).filter(([inA, inB]) => inA + inB > 0)
  const kept = cells.filter((cell) => !isSmall(cell))
  const rest = cells.filter(isSmall).reduce<[number, number]>(([x, y], [inA, inB]) => [x + inA, y + inB], [0, 0])
  if (rest[0] + rest[1] === 0) return kept
  if (!noneSmall || !isSmall(rest) || kept.length === 0) return [...kept, rest]
  const smallest = kept.reduce((least, cell) => (cell[0] + cell[1] < least[0] + least[1] ? cell : least))
  return kept.map((cell) => (cell === smallest ? [cell[0] + rest[0], cell[1] + rest[1]] : cell))
}

function total(counts: readonly number[]): number {
  return counts.reduce((sum, count) => sum + count, 0)
}
