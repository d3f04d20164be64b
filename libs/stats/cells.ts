/**
 * Cells into which values are counted. They are frozen with a reference, so counts add up over any rows, in any order.
 *
 * 1. Every value falls into exactly one cell: a missing or odd one into a cell of its own, never into none.
 * 2. One wild value moves one count, not the cells.
 * 3. A value that makes up a whole bin's share of the reference has a bin to itself, so two-valued features keep two.
 */

/**
 * Ascending edges e0 … en of n bins [e(i), e(i+1)), the last closed on both sides (and a single value when its two edges
 * are equal). Cells are the n bins and then under, over, missing, non-finite.
 */
export type BinEdges = readonly number[]

/** The cells of a numeric feature after its bins, in order. */
export const numericSpecialCells = ['under', 'over', 'missing', 'non-finite'] as const

/** The cells of a categorical feature after its categories, in order. */
export const categoricalSpecialCells = ['unseen', 'missing'] as const

/** About `bins` bins that hold equal shares of the finite values; throws when there is none. */
export function quantileBins(values: Iterable<number>, bins: number): BinEdges {
  const sorted = Float64Array.from([...values].filter(Number.isFinite)).sort()
  const first = sorted[0]
  const last = sorted.at(-1)
  if (first === undefined || last === undefined) throw new RangeError('no finite value to take quantiles of')
  const share = sorted.length / bins
  const edges = [first]
  let inBin = 0
  let afterAtom = false
  for (const { value, count } of runs(sorted)) {
    const isAtom = count >= share
    if (inBin > 0 && (isAtom || afterAtom || inBin + count / 2 > share)) {
      edges.push(value)
      inBin = 0
    }
    inBin += count
    afterAtom = isAtom
  }
  return [...edges, last]
}

/** Number of cells that belong to `edges`. */
export function binCellCount(edges: BinEdges): number {
  return edges.length - 1 + numericSpecialCells.length
}

/** The cell of a value; undefined and null are missing. */
export function binIndex(edges: BinEdges, value: number | null | undefined): number {
  const bins = edges.length - 1
  if (value === undefined || value === null) return bins + 2
  if (!Number.isFinite(value)) return bins + 3
  if (value < (edges[0] ?? 0)) return bins
  if (value > (edges[bins] ?? 0)) return bins + 1
  let low = 0
  let high = bins
  while (high - low > 1) {
    const middle = (low + high) >>> 1
    if ((edges[middle] ?? 0) <= value) low = middle
    else high = middle
  }
  return low
}

/** The most frequent values, ties and the result in the order of their text; at most `limit`. */
export function topCategories(values: Iterable<string>, limit: number): string[] {
  const counts = new Map<string, number>()
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1)
  const byFrequency = [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))
  return byFrequency
    .slice(0, limit)
    .map(([value]) => value)
    .sort()
}

/** Looks up the cells of categories: the categories in order, then unseen, then missing. */
export function categoryIndex(categories: readonly string[]): (value: string | null | undefined) => number {
  const cells = new Map(categories.map((category, cell) => [category, cell]))
  return (value) =>
    value === undefined || value === null ? categories.length + 1 : (cells.get(value) ?? categories.length)
}

/** Number of cells that belong to `categories`. */
export function categoryCellCount(categories: readonly string[]): number {
  return categories.length + categoricalSpecialCells.length
}

/** Counts of nothing. */
export function emptyCounts(cells: number): number[] {
  return new Array<number>(cells).fill(0)
}

/** Adds counts in place and gives the sum back. */
export function addCounts(sum: number[], counts: readonly number[]): number[] {
  if (sum.length !== counts.length) throw new RangeError(`${counts.length} counts for ${sum.length} cells`)
  counts.forEach((count, cell) => {
    sum[cell] = (sum[cell] ?? 0) + count
  })
  return sum
}

function* runs(sorted: Float64Array): Generator<{ value: number; count: number }> {
  let start = 0
  for (let i = 1; i <= sorted.length; i++) {
    const value = sorted[start]
    if (value !== undefined && sorted[i] !== value) {
      yield { value, count: i - start }
      start = i
    }
  }
}
