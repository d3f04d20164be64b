/** A watched column: a feature or an output of a version, its frozen cells, its reference and what that was calibrated to. */
import {
  type CategoricalCells,
  FeatureType,
  type NumericCells,
  type ReferenceDistribution,
  type ReferenceKind,
} from '@slipway/proto/slipway/registry/v1/model'
import {
  addCounts,
  binCellCount,
  binIndex,
  categoryCellCount,
  categoryIndex,
  emptyCounts,
  numericSpecialCells,
} from '@slipway/stats'
import { type Calibration, calibrate } from './calibration.ts'
import { HOUR_MICROS, microsOfDuration, microsOfTimestamp } from './time.ts'

/** The cells of a column, as the registry keeps them. */
export type Cells =
  | { readonly case: 'numeric'; readonly value: NumericCells }
  | { readonly case: 'categorical'; readonly value: CategoricalCells }

/** One of the two things that are tested about a column, and what is known about it. */
export interface Aspect {
  /** The counts that the test looks at, from the counts of all cells. */
  readonly project: (counts: readonly number[]) => number[]
  /** What windows may differ by even if those of the reference did not. */
  readonly ordinaryExcess: number
  /** By length of window in hours. */
  readonly calibrations: Map<number, Calibration | undefined>
}

/** A watched column. */
export interface Column {
  readonly name: string
  readonly kind: ReferenceKind
  readonly cells: Cells
  /** Number of cells, and where they begin among the cells of the whole version. */
  readonly cellCount: number
  readonly firstCell: number
  /** The cell, from 0, of a number, a text, or undefined for a missing value. */
  readonly cellOf: (value: number | string | undefined) => number
  /** Counts of the whole reference. */
  readonly reference: readonly number[]
  readonly windows: readonly ReferenceWindowCounts[]
  /** How the values are spread, and how many there are: a share of nulls shows however wildly the values vary. */
  readonly values: Aspect
  readonly presence: Aspect
}

/** Counts of one window of the reference. */
export interface ReferenceWindowCounts {
  readonly startHour: number
  readonly hours: number
  readonly counts: readonly number[]
}

/**
 * Values go missing in bursts: an airport is closed, an upstream is late. A reference without any does not say that they
 * never do, so a quarter of a percent is taken for ordinary, and about one in twenty alarms.
 */
const ORDINARY_MISSING_EXCESS = 0.017

/** Makes a column of a reference distribution; a text that says what is wrong with it when that is not possible. */
export function columnOf(distribution: ReferenceDistribution, firstCell: number): Column | string {
  const { cells, name, kind } = distribution
  if (cells.case === undefined) return `${name} has no cells`
  const cellCount = cells.case === 'numeric' ? binCellCount(cells.value.edges) : categoryCellCount(cells.value.values)
  if (distribution.windows.some(({ counts }) => counts.length !== cellCount))
    return `${name} has other counts than cells`
  const windows = distribution.windows.map((window) => ({
    startHour: Number(microsOfTimestamp(window.startTime) / HOUR_MICROS),
    hours: Number(microsOfDuration(window.length) / HOUR_MICROS),
    counts: window.counts.map(Number),
  }))
  const reference = windows.reduce((sum, { counts }) => addCounts(sum, counts), emptyCounts(cellCount))
  if (!reference.some((count) => count > 0)) return `${name} has an empty reference`
  const aspect = (project: Aspect['project'], ordinaryExcess: number): Aspect => {
    return { project, ordinaryExcess, calibrations: new Map() }
  }
  const present = cells.case === 'numeric' ? cellCount - numericSpecialCells.length + 2 : cellCount - 1
  return {
    name,
    kind,
    cells,
    cellCount,
    firstCell,
    cellOf: cellFinder(cells),
    reference,
    windows,
    values: aspect((counts) => counts.slice(0, present), 0),
    presence: aspect((counts) => [sum(counts.slice(0, present)), ...counts.slice(present)], ORDINARY_MISSING_EXCESS),
  }
}

/** What is known about an aspect for windows of a length; undefined when the reference cannot say. */
export function calibrationOf(column: Column, aspect: Aspect, windowHours: number): Calibration | undefined {
  if (aspect.calibrations.has(windowHours)) return aspect.calibrations.get(windowHours)
  const calibration = calibrate(joinWindows(column.windows, windowHours).map(aspect.project), aspect.ordinaryExcess)
  aspect.calibrations.set(windowHours, calibration)
  return calibration
}

/** First hour after the reference, and its length in hours. */
export function referencePeriod(column: Column): { endHour: number; hours: number } {
  const startHour = Math.min(...column.windows.map((window) => window.startHour))
  const endHour = Math.max(...column.windows.map((window) => window.startHour + window.hours))
  return { endHour, hours: endHour - startHour }
}

/** Puts the reference's windows together to longer ones; none when they do not fit into the length wanted. */
export function joinWindows(windows: readonly ReferenceWindowCounts[], windowHours: number): number[][] {
  const first = windows[0]
  if (first === undefined) return []
  const joined = new Map<number, { counts: number[]; hours: number }>()
  for (const { startHour, hours, counts } of windows) {
    if (hours <= 0 || windowHours % hours !== 0) return []
    const slot = Math.floor((startHour - first.startHour) / windowHours)
    const into = joined.get(slot) ?? { counts: emptyCounts(counts.length), hours: 0 }
    joined.set(slot, { counts: addCounts(into.counts, counts), hours: into.hours + hours })
  }
  return [...joined.values()].filter(({ hours }) => hours === windowHours).map(({ counts }) => counts)
}

/** Where the value of a feature stands in the packed columns of a logged prediction. */
export type Packing = 'doubles' | 'int64s' | 'strings'

/** The packed column that values of a type are logged in. */
export function packingOf(type: FeatureType): Packing {
  if (type === FeatureType.STRING) return 'strings'
  return type === FeatureType.DOUBLE ? 'doubles' : 'int64s'
}

function cellFinder(cells: Cells): Column['cellOf'] {
  if (cells.case === 'numeric') {
    // Training sets often hold 32-bit floats where the log holds doubles; 0.2 must fall on the same side of an edge.
    const edges = cells.value.edges.map(single)
    return (value) => binIndex(edges, value === undefined ? undefined : single(Number(value)))
  }
  const indexOf = categoryIndex(cells.value.values)
  return (value) => indexOf(value === undefined ? undefined : String(value))
}

function single(value: number): number {
  const rounded = Math.fround(value)
  return Number.isFinite(rounded) ? rounded : value
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0)
}
