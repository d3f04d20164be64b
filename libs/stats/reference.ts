/** Builds the reference distribution of a feature or an output from the rows that a model was trained on. */
import {
  addCounts,
  binCellCount,
  binIndex,
  categoryCellCount,
  categoryIndex,
  emptyCounts,
  quantileBins,
  topCategories,
} from './cells.ts'

/** How many bins a numeric feature gets, and how many categories are kept. */
const BINS = 10
const CATEGORIES_MAX = 100

/** What to count. */
export interface ReferenceOptions {
  /** Length of a window, default one day. Windows begin at whole multiples of it since the epoch. */
  readonly windowMicros?: bigint
  /** Bins of a numeric feature, default 10. */
  readonly bins?: number
  /** Most categories that get a cell of their own, default 100. */
  readonly categoriesMax?: number
}

/** Counts of one window of the training period. */
export interface CountedWindow {
  readonly startMicros: bigint
  readonly lengthMicros: bigint
  readonly counts: number[]
}

/** Frozen cells and the counts of each window, in order of time. */
export interface CountedReference {
  readonly cells: { readonly edges: readonly number[] } | { readonly categories: readonly string[] }
  readonly windows: readonly CountedWindow[]
  /** Mean of the finite values, 0 for categories. */
  readonly mean: number
  /** Standard deviation of the finite values, 0 for categories. */
  readonly standardDeviation: number
}

/** Counts numbers; null and undefined are missing values. `times` are microseconds since the epoch, one a value. */
export function numericReference(
  values: readonly (number | null | undefined)[],
  times: readonly bigint[],
  options: ReferenceOptions = {},
): CountedReference {
  const finite = values.filter((value) => typeof value === 'number' && Number.isFinite(value)) as number[]
  const edges = quantileBins(finite, options.bins ?? BINS)
  const mean = finite.reduce((sum, value) => sum + value, 0) / finite.length
  const variance = finite.reduce((sum, value) => sum + (value - mean) ** 2, 0) / finite.length
  const cellOf = (row: number) => binIndex(edges, values[row])
  const windows = countWindows(times, values.length, binCellCount(edges), cellOf, options)
  return { cells: { edges }, windows, mean, standardDeviation: Math.sqrt(variance) }
}

/** Counts categories; null and undefined are missing values. `times` are microseconds since the epoch, one a value. */
export function categoricalReference(
  values: readonly (string | null | undefined)[],
  times: readonly bigint[],
  options: ReferenceOptions = {},
): CountedReference {
  const seen = values.filter((value) => typeof value === 'string')
  const categories = topCategories(seen, options.categoriesMax ?? CATEGORIES_MAX)
  const indexOf = categoryIndex(categories)
  const cellOf = (row: number) => indexOf(values[row])
  const windows = countWindows(times, values.length, categoryCellCount(categories), cellOf, options)
  return { cells: { categories }, windows, mean: 0, standardDeviation: 0 }
}

/** The sum of the windows' counts. */
export function totalCounts(windows: readonly { readonly counts: readonly number[] }[], cells: number): number[] {
  return windows.reduce((sum, { counts }) => addCounts(sum, counts), emptyCounts(cells))
}

function countWindows(
  times: readonly bigint[],
  rows: number,
  cells: number,
  cellOf: (row: number) => number,
  options: ReferenceOptions,
): CountedWindow[] {
  if (times.length !== rows) throw new RangeError(`${times.length} times for ${rows} values`)
  const lengthMicros = options.windowMicros ?? 86_400_000_000n
  const windows = new Map<bigint, number[]>()
  times.forEach((time, row) => {
    const startMicros = time - (((time % lengthMicros) + lengthMicros) % lengthMicros)
    const counts = windows.get(startMicros) ?? emptyCounts(cells)
    windows.set(startMicros, counts)
    const cell = cellOf(row)
    counts[cell] = (counts[cell] ?? 0) + 1
  })
  return [...windows]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([startMicros, counts]) => ({ startMicros, lengthMicros, counts }))
}
