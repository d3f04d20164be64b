/**
 * A trailing window of one version, put together from hourly counts.
 *
 * A version rarely answers the same share of the traffic all the time: during a rollout its rows crowd in the hours after
 * each step, and the hour of day would seem to drift. So each hour of the version is weighted to what the hour is of the
 * endpoint's whole traffic; an hour in which it answered far less than it does on the whole cannot be made up for by
 * weights, and too much traffic in such hours means that the window cannot be judged. Rows logged at different sampling
 * rates are weighted by the inverse of their rate. What weights cost shows in the effective size (Kish).
 */
import { addCounts, emptyCounts } from '@slipway/stats'

/** Counts of one version in one hour, of rows logged at one sampling rate. */
export interface Pane {
  readonly hour: number
  readonly samplingRate: number
  readonly rows: number
  readonly counts: readonly number[]
}

/** Rows of the whole endpoint in one hour, each weighted by the inverse of its sampling rate. */
export interface HourTraffic {
  readonly hour: number
  readonly weight: number
}

/** Counts of a window. */
export interface WindowCounts {
  /** Rows as they came. */
  readonly rows: number
  readonly counts: readonly number[]
  /** Counts of weighted rows, scaled to add up to the effective size. */
  readonly weighted: readonly number[]
  readonly effectiveRows: number
  /** Share of the endpoint's traffic that lies in hours in which the version answered next to nothing, 0 to 1. */
  readonly uncovered: number
}

/** An hour is covered when the version's share in it is at least this part of its share in the whole window. */
const COVERED_SHARE_MIN = 0.25

/** Puts the window of hours `[startHour, endHour)` together. */
export function windowCounts(
  panes: readonly Pane[],
  traffic: readonly HourTraffic[],
  window: { startHour: number; endHour: number; cellCount: number },
): WindowCounts {
  const inside = ({ hour }: { hour: number }) => hour >= window.startHour && hour < window.endHour
  const used = panes.filter(inside)
  const ofEndpoint = new Map<number, number>()
  for (const { hour, weight } of traffic.filter(inside)) addTo(ofEndpoint, hour, weight)
  const ofVersion = new Map<number, number>()
  for (const { hour, rows, samplingRate } of used) addTo(ofVersion, hour, rows / samplingRate)
  const share = sumOf(ofVersion.values()) / sumOf(ofEndpoint.values())
  const isCovered = (hour: number) =>
    (ofVersion.get(hour) ?? 0) >= COVERED_SHARE_MIN * share * (ofEndpoint.get(hour) ?? Number.POSITIVE_INFINITY)
  const weightOf = ({ hour, samplingRate }: Pane) =>
    isCovered(hour) ? (ofEndpoint.get(hour) ?? 0) / (ofVersion.get(hour) ?? 1) / samplingRate : 0

  const counts = emptyCounts(window.cellCount)
  const weighted = emptyCounts(window.cellCount)
  let [rows, weights, squares] = [0, 0, 0]
  for (const pane of used) {
    const weight = weightOf(pane)
    addCounts(counts, pane.counts)
    pane.counts.forEach((count, cell) => {
      weighted[cell] = (weighted[cell] ?? 0) + count * weight
    })
    rows += pane.rows
    weights += pane.rows * weight
    squares += pane.rows * weight * weight
  }
  const effectiveRows = squares > 0 ? (weights * weights) / squares : 0
  const scale = weights > 0 ? effectiveRows / weights : 0
  const uncovered = sumOf([...ofEndpoint].filter(([hour]) => !isCovered(hour)).map(([, weight]) => weight))
  return {
    rows,
    counts,
    weighted: weighted.map((count) => count * scale),
    effectiveRows,
    uncovered: rows > 0 ? uncovered / sumOf(ofEndpoint.values()) : 1,
  }
}

function addTo(sums: Map<number, number>, key: number, value: number): void {
  sums.set(key, (sums.get(key) ?? 0) + value)
}

function sumOf(values: Iterable<number>): number {
  let sum = 0
  for (const value of values) sum += value
  return sum
}
