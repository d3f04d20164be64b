/**
 * Gradient-boosted regression trees for a binary target: logistic loss, second-order leaf values, histogram splits,
 * shrinkage (Chen and Guestrin, "XGBoost", KDD 2016, equations 5 and 7). Deterministic: the same rows in the same
 * order and the same seed give the same trees.
 */
import type { Tree } from '@slipway/onnx'

/** Columns of equal length; NaN stands for a missing value. Values are single precision, as the model will see them. */
export interface Matrix {
  readonly names: readonly string[]
  readonly columns: readonly Float32Array[]
  readonly rows: number
}

/** What the fit is asked to do. */
export interface BoostingOptions {
  readonly trees: number
  readonly maxDepth: number
  readonly learningRate: number
  /** Smallest sum of second derivatives in a leaf, in rows times p(1-p). */
  readonly minLeafHessian: number
  /** L2 penalty on leaf values. */
  readonly lambda: number
  /** Share of the rows that each tree sees, 0 to 1. */
  readonly rowShare: number
  readonly seed: number
  /** Called after each tree with the share done, 0 to 1. */
  readonly onProgress?: (done: number) => void
}

/** The sum of `bias` and one leaf of each tree is the log-odds. */
export interface BoostedTrees {
  readonly bias: number
  readonly trees: readonly Tree[]
}

const maxBins = 64
const minGain = 1e-3

interface Binned {
  /** Ascending cut points; bin 0 is missing, bin b > 0 holds values in (cuts[b-2], cuts[b-1]]. */
  readonly cuts: Float32Array
  readonly bins: Uint8Array
}

interface Split {
  readonly gain: number
  readonly feature: number
  readonly bin: number
}

/** Fits trees to labels of 0 and 1. */
export function fitBoostedTrees(matrix: Matrix, labels: Uint8Array, options: BoostingOptions): BoostedTrees {
  const binned = matrix.columns.map(binColumn)
  const positives = labels.reduce((sum, label) => sum + label, 0)
  const share = Math.min(Math.max(positives / matrix.rows, 1e-6), 1 - 1e-6)
  const bias = Math.log(share / (1 - share))
  const scores = new Float64Array(matrix.rows).fill(bias)
  const random = linearCongruential(options.seed)
  const trees: Tree[] = []
  for (let round = 0; round < options.trees; round++) {
    const tree = growTree(binned, labels, scores, options, random)
    trees.push(tree)
    for (let row = 0; row < matrix.rows; row++) scores[row] = at(scores, row) + leafOf(tree, matrix, row)
    options.onProgress?.((round + 1) / options.trees)
  }
  return { bias, trees }
}

/** Probability of a late flight for each row. */
export function predictBoostedTrees(model: BoostedTrees, matrix: Matrix): Float64Array {
  return Float64Array.from({ length: matrix.rows }, (_, row) => {
    let score = model.bias
    for (const tree of model.trees) score += leafOf(tree, matrix, row)
    return 1 / (1 + Math.exp(-score))
  })
}

function leafOf(tree: Tree, matrix: Matrix, row: number): number {
  let node = tree
  while ('left' in node) {
    const value = matrix.columns[node.feature]?.[row] ?? Number.NaN
    node = value <= node.threshold || Number.isNaN(value) ? node.left : node.right
  }
  return node.value
}

function growTree(
  binned: readonly Binned[],
  labels: Uint8Array,
  scores: Float64Array,
  options: BoostingOptions,
  random: () => number,
): Tree {
  const gradients = new Float64Array(labels.length)
  const hessians = new Float64Array(labels.length)
  const sampled = new Uint32Array(labels.length)
  let count = 0
  for (let row = 0; row < labels.length; row++) {
    const probability = 1 / (1 + Math.exp(-at(scores, row)))
    gradients[row] = probability - at(labels, row)
    hessians[row] = probability * (1 - probability)
    if (random() < options.rowShare) sampled[count++] = row
  }
  const grow = (rows: Uint32Array, depth: number): Tree => {
    const totals = sum(rows, gradients, hessians)
    const split = depth < options.maxDepth ? bestSplit(binned, rows, gradients, hessians, totals, options) : undefined
    const column = split === undefined ? undefined : binned[split.feature]
    if (split === undefined || column === undefined) {
      return { value: Math.fround((-totals.gradient / (totals.hessian + options.lambda)) * options.learningRate) }
    }
    return {
      feature: split.feature,
      threshold: split.bin === 0 ? Number.NEGATIVE_INFINITY : at(column.cuts, split.bin - 1),
      // A missing value has bin 0, which lies left of every split.
      missingLeft: true,
      left: grow(
        rows.filter((row) => at(column.bins, row) <= split.bin),
        depth + 1,
      ),
      right: grow(
        rows.filter((row) => at(column.bins, row) > split.bin),
        depth + 1,
      ),
    }
  }
  return grow(sampled.subarray(0, count), 0)
}

interface Totals {
  readonly gradient: number
  readonly hessian: number
}

function sum(rows: Uint32Array, gradients: Float64Array, hessians: Float64Array): Totals {
  let gradient = 0
  let hessian = 0
  for (const row of rows) {
    gradient += at(gradients, row)
    hessian += at(hessians, row)
  }
  return { gradient, hessian }
}

function bestSplit(
  binned: readonly Binned[],
  rows: Uint32Array,
  gradients: Float64Array,
  hessians: Float64Array,
  totals: Totals,
  options: BoostingOptions,
): Split | undefined {
  const score = (gradient: number, hessian: number) => (gradient * gradient) / (hessian + options.lambda)
  let best: Split | undefined
  if (totals.hessian < 2 * options.minLeafHessian) return best
  const binGradients = new Float64Array(maxBins + 1)
  const binHessians = new Float64Array(maxBins + 1)
  for (const [feature, { bins, cuts }] of binned.entries()) {
    binGradients.fill(0)
    binHessians.fill(0)
    for (const row of rows) {
      const bin = at(bins, row)
      binGradients[bin] = at(binGradients, bin) + at(gradients, row)
      binHessians[bin] = at(binHessians, bin) + at(hessians, row)
    }
    let gradient = 0
    let hessian = 0
    for (let bin = 0; bin <= cuts.length; bin++) {
      gradient += at(binGradients, bin)
      hessian += at(binHessians, bin)
      if (hessian < options.minLeafHessian || totals.hessian - hessian < options.minLeafHessian) continue
      const gain =
        score(gradient, hessian) +
        score(totals.gradient - gradient, totals.hessian - hessian) -
        score(totals.gradient, totals.hessian)
      if (gain > (best?.gain ?? minGain)) best = { gain, feature, bin }
    }
  }
  return best
}

function binColumn(column: Float32Array): Binned {
  const sorted = column.filter((value) => !Number.isNaN(value)).sort()
  const cuts: number[] = []
  for (let quantile = 1; quantile < maxBins - 1; quantile++) {
    const cut = sorted[Math.floor((quantile * sorted.length) / (maxBins - 1))]
    if (cut !== undefined && cut > (cuts.at(-1) ?? Number.NEGATIVE_INFINITY)) cuts.push(cut)
  }
  const edges = Float32Array.from(cuts)
  return { cuts: edges, bins: Uint8Array.from(column, (value) => binOf(edges, value)) }
}

function binOf(cuts: Float32Array, value: number): number {
  if (Number.isNaN(value)) return 0
  let low = 0
  let high = cuts.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (value <= at(cuts, middle)) high = middle
    else low = middle + 1
  }
  return low + 1
}

/** Numerical Recipes' 32-bit generator; enough to choose rows. */
function linearCongruential(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

function at(values: Float64Array | Float32Array | Uint8Array | Uint32Array, index: number): number {
  return values[index] ?? 0
}
