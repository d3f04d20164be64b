/** Distances between two distributions given as counts over the same cells. */

/** Population stability index, sum of (p - q) ln(p / q), with half a row added to each cell so that it stays finite. */
export function populationStabilityIndex(reference: readonly number[], current: readonly number[]): number {
  const [p, q] = [shares(reference, 0.5), shares(current, 0.5)]
  return sumOver(p, q, (x, y) => (x - y) * Math.log(x / y))
}

/** Jensen-Shannon divergence in bits, 0 (same) to 1 (nothing in common). Its square root is the distance. */
export function jensenShannon(reference: readonly number[], current: readonly number[]): number {
  const part = (x: number, y: number) => (x === 0 ? 0 : x * Math.log2((2 * x) / (x + y)))
  return sumOver(shares(reference), shares(current), (x, y) => (part(x, y) + part(y, x)) / 2)
}

/** Total variation distance: the share of rows that would have to move to another cell, 0 to 1. */
export function totalVariation(reference: readonly number[], current: readonly number[]): number {
  return sumOver(shares(reference), shares(current), (x, y) => Math.abs(x - y) / 2)
}

function shares(counts: readonly number[], added = 0): number[] {
  const total = counts.reduce((sum, count) => sum + count + added, 0)
  if (!(total > 0)) throw new RangeError('no rows to compare')
  return counts.map((count) => (count + added) / total)
}

function sumOver(p: readonly number[], q: readonly number[], term: (x: number, y: number) => number): number {
  if (p.length !== q.length) throw new RangeError(`${p.length} cells against ${q.length}`)
  return p.reduce((sum, x, cell) => sum + term(x, q[cell] ?? 0), 0)
}
