/**
 * Rows drawn from reference distributions, each feature for itself: the stand-in where a version carries no rows of its
 * training set. Each feature's values are a Latin hypercube sample of its cells (McKay et al., 1979): as many rows in each
 * cell as its share says, so that a few rows have the distribution of many. Pure.
 */
import type { RowValue } from '@slipway/models'
import { type FeatureBinding, FeatureType, type ReferenceDistribution } from '@slipway/proto/slipway/registry/v1/model'
import { createRandom, type Random } from '@slipway/stats'

/** Rows that are drawn. */
export const MARGINAL_ROWS = 64

/** Draws rows by the names of the features; undefined when one of them has no reference distribution with a value. */
export function drawMarginals(
  features: readonly Pick<FeatureBinding, 'feature' | 'type'>[],
  distributions: readonly ReferenceDistribution[],
  seed: string,
): Record<string, RowValue>[] | undefined {
  const rows: Record<string, RowValue>[] = Array.from({ length: MARGINAL_ROWS }, () => ({}))
  for (const { feature, type } of features) {
    const distribution = distributions.find(({ name }) => name === feature)
    const values = distribution && drawFeature(distribution, type, createRandom(`marginals:${seed}:${feature}`))
    if (values === undefined) return undefined
    for (const [row, value] of values.entries()) (rows[row] as Record<string, RowValue>)[feature] = value
  }
  return rows
}

function drawFeature(distribution: ReferenceDistribution, type: FeatureType, random: Random): RowValue[] | undefined {
  const cells = cellsOf(distribution)
  const counts = cells.map((_, cell) =>
    distribution.windows.reduce((sum, window) => sum + Number(window.counts[cell] ?? 0n), 0),
  )
  const total = counts.reduce((sum, count) => sum + count, 0)
  if (total === 0) return undefined
  const values = Array.from({ length: MARGINAL_ROWS }, (_, row) => {
    const value = valueAt(cells, counts, ((row + random.uniform()) / MARGINAL_ROWS) * total)
    return typeof value === 'number' && type !== FeatureType.DOUBLE ? Math.round(value) : value
  })
  return random.shuffle(values)
}

/** The value at a height of the piled up counts. */
function valueAt(cells: readonly Cell[], counts: readonly number[], height: number): RowValue {
  let left = height
  for (const [index, count] of counts.entries()) {
    if (left < count) return cells[index]?.(left / count)
    left -= count
  }
  return cells[counts.findLastIndex((count) => count > 0)]?.(1)
}

/** A value of a cell, from its beginning at 0 to its end at 1. */
type Cell = (share: number) => RowValue

/** The cells that have values, in the order of the counts; what is not finite or was never seen has none. */
function cellsOf({ cells }: ReferenceDistribution): Cell[] {
  if (cells.case === 'categorical') return cells.value.values.map((value) => () => value)
  if (cells.case !== 'numeric') return []
  const { edges } = cells.value
  const bins = edges.slice(1).map((high, index): Cell => {
    const low = edges[index] ?? high
    return (share) => low + (high - low) * share
  })
  return [...bins, () => edges[0], () => edges.at(-1), () => null]
}
