/**
 * How much do windows differ when nothing is wrong? Real days differ more than draws of coins: there is weather, and
 * there are seasons. The reference's own windows say how much, and this module turns that into the distribution that the
 * two-sample statistic has without drift, for a window of any size.
 *
 * The model: over a window, the true distribution lies at a squared distance X from the reference's, on top of which
 * rows are drawn. The statistic T of a window with effective size n then has mean df + n E[X] and variance
 * 2 df + 4 n E[X] + n^2 Var[X]; a gamma distribution with these moments is its tail.
 *
 * 1. E[X] and Var[X] come from windows held out of the reference one by one, their sampling noise taken off.
 * 2. Var[X] is at least 2 E[X]^2, the most that a sum of squared normal components with that mean can have: one bad
 *    direction, as a day has good or bad weather. A few dozen windows cannot be trusted to show less.
 * 3. What moves slowly (a mean over weeks) hardly differs from day to day and yet drifts away for ever. How far the
 *    quarters of the reference lie apart, beyond what its days explain, is taken for a random walk that goes on: E[X]
 *    grows with the time since the reference ended, for at most one length of it.
 * 4. Below `CALIBRATION_WINDOWS_MIN` windows nothing of this can be known, and there is no calibration.
 */
import { addCounts, emptyCounts, twoSampleLikelihoodRatio } from '@slipway/stats'

/** Windows that a calibration needs. */
export const CALIBRATION_WINDOWS_MIN = 30

const BLOCKS = 4

/** What the reference's windows say about windows. */
export interface Calibration {
  /** Windows that it rests on. */
  readonly windows: number
  /** E[X] of a window held out of its own reference. */
  readonly excess: number
  /** Var[X] of such a window, as observed. */
  readonly variance: number
  /** E[X] that a random walk as the reference's adds over one length of the reference. */
  readonly trend: number
}

/** Gamma distribution of the statistic without drift. */
export interface NullTail {
  readonly shape: number
  readonly scale: number
}

/**
 * Learns from windows of equal length in order of time; undefined when they are too few. `ordinaryExcess` is an E[X] that
 * is taken for ordinary even where the windows show less: what happens rarely and then at once is not in a few dozen.
 */
export function calibrate(windows: readonly (readonly number[])[], ordinaryExcess = 0): Calibration | undefined {
  const whole = withoutPartial(windows)
  if (whole.length < CALIBRATION_WINDOWS_MIN) return undefined
  const total = sumOf(whole)
  const held = whole.map((window) => twoSampleLikelihoodRatio(window, subtract(total, window)))
  const excesses = held.map((result) => excessOf(result))
  const excess = Math.max(ordinaryExcess, mean(excesses))
  const noise = held.map(({ degreesOfFreedom: df, effectiveSize: n }) => (2 * df + 4 * n * excess) / (n * n))
  const variance = Math.max(0, varianceOf(excesses) - mean(noise))
  return { windows: whole.length, excess, variance, trend: trendOf(whole, excess) }
}

/**
 * The statistic's distribution for a window of `effectiveSize` that lies `age` lengths of the reference after its end.
 * Without a calibration it is chi-square, as for independent rows.
 */
export function nullTail(
  calibration: Calibration | undefined,
  degreesOfFreedom: number,
  effectiveSize: number,
  age: number,
): NullTail {
  if (calibration === undefined) return { shape: degreesOfFreedom / 2, scale: 2 }
  const excess = calibration.excess + calibration.trend * (1 / 6 + Math.min(1, Math.max(0, age)))
  const mean = degreesOfFreedom + effectiveSize * excess
  const spread = Math.max(calibration.variance, 2 * excess * excess)
  const variance = 2 * degreesOfFreedom + 4 * effectiveSize * excess + effectiveSize * effectiveSize * spread
  return { shape: (mean * mean) / variance, scale: variance / mean }
}

/** A window that the period cuts off, or in which little was recorded, is not like the others: it is left out. */
function withoutPartial(windows: readonly (readonly number[])[]): (readonly number[])[] {
  const sizes = windows.map(sizeOf)
  const median = sizes.toSorted((a, b) => a - b)[Math.floor(sizes.length / 2)] ?? 0
  return windows.filter((_, index) => (sizes[index] ?? 0) * 2 >= median && median > 0)
}

/**
 * Growth of a random walk over the whole reference, from the distances of its quarters. Between the means of blocks of
 * length b that lie s blocks apart, a walk that moves by v a window is at mean squared distance v b (s - 1/3).
 */
function trendOf(windows: readonly (readonly number[])[], excess: number): number {
  const length = windows.length / BLOCKS
  const blocks = Array.from({ length: BLOCKS }, (_, block) =>
    sumOf(windows.slice(Math.round(block * length), Math.round((block + 1) * length))),
  )
  let distance = 0
  let weight = 0
  for (const [i, first] of blocks.entries()) {
    for (const [j, second] of blocks.entries()) {
      if (j <= i) continue
      distance += Math.max(0, excessOf(twoSampleLikelihoodRatio(first, second)) - (2 * excess) / length)
      weight += j - i - 1 / 3
    }
  }
  return (BLOCKS * distance) / weight
}

function excessOf(result: { statistic: number; degreesOfFreedom: number; effectiveSize: number }): number {
  return result.effectiveSize === 0 ? 0 : (result.statistic - result.degreesOfFreedom) / result.effectiveSize
}

function sumOf(windows: readonly (readonly number[])[]): number[] {
  return windows.reduce<number[]>((sum, window) => addCounts(sum, window), emptyCounts(windows[0]?.length ?? 0))
}

function subtract(total: readonly number[], part: readonly number[]): number[] {
  return total.map((count, cell) => count - (part[cell] ?? 0))
}

function sizeOf(counts: readonly number[]): number {
  return counts.reduce((sum, count) => sum + count, 0)
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

function varianceOf(values: readonly number[]): number {
  const centre = mean(values)
  return values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1)
}
