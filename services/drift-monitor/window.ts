/**
 * A trailing window of one version, put together from hourly counts.
 *
 * A version rarely answers the same share of the traffic all the time: during a rollout its rows crowd in the hours after
 * each step, and hour of day would seem to drift. So rows are weighted until the version's share of each block of hours
 * is that of the endpoint's whole traffic, and the window is judged only where the version has rows to weight. Rows
 * logged at different sampling rates are weighted by the inverse of their rate. What the weights cost shows in the
 * effective size (Kish), which every test uses.
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
  /** Share of the endpoint's traffic that lies in blocks of hours in which the version has no row, 0 to 1. */
  readonly uncovered: number
}

/** Puts the window of hours `[startHour, endHour)` together; blocks are `blockHours` long and end with the window. */
export function windowCounts(
  panes: readonly Pane[],
  traffic: readonly HourTraffic[],
  window: { startHour: number; endHour: number; blockHours: number; cellCount: number },
): WindowCounts {
  const inside = ({ hour }: { hour: number }) => hour >= window.startHour && hour < window.endHour
  const blockOf = (hour: number) => Math.floor((hour - window.startHour) / window.blockHours)
  const endpointByBlock = new Map<number, number>()
  for (const { hour, weight } of traffic.filter(inside)) addTo(endpointByBlock, blockOf(hour), weight)
  const versionByBlock = new Map<number, number>()
  const used = panes.filter(inside)
  for (const { hour, rows, samplingRate } of used) addTo(versionByBlock, blockOf(hour), rows / samplingRate)

  const endpointTotal = sumOf(endpointByBlock.values())
  const covered = sumOf([...endpointByBlock].filter(([block]) => versionByBlock.has(block)).map(([, weight]) => weight))
  const counts = emptyCounts(window.cellCount)
  const weighted = emptyCounts(window.cellCount)
  let [rows, weights, squares] = [0, 0, 0]
  for (const pane of used) {
    const block = blockOf(pane.hour)
    const weight = (endpointByBlock.get(block) ?? 0) / (versionByBlock.get(block) ?? 1) / pane.samplingRate
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
  return {
    rows,
    counts,
    weighted: weighted.map((count) => count * scale),
    effectiveRows,
    uncovered: endpointTotal > 0 ? 1 - covered / endpointTotal : 1,
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
