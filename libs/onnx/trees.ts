import { buildModel } from './build.ts'
import { OnnxError } from './model.ts'

/** A decision tree. */
export type Tree = TreeLeaf | TreeSplit

/** The end of a path: what it adds to the score. */
export interface TreeLeaf {
  readonly value: number
}

/** Goes left where the feature is at or below the threshold, and where it is missing (NaN) and `missingLeft` says so. */
export interface TreeSplit {
  readonly feature: number
  readonly threshold: number
  readonly missingLeft: boolean
  readonly left: Tree
  readonly right: Tree
}

/**
 * A boosted ensemble: the sigmoid of `base` plus the sum of all trees' leaves. Input `features` FP32 [-1, featureCount], NaN where a
 * value is missing; output `probability` FP32 [-1, 1]. Thresholds are rounded down to 32-bit floats, which changes no
 * decision on 32-bit features.
 */
export function treeEnsembleModel(options: {
  trees: readonly Tree[]
  featureCount: number
  base?: number
  name?: string
  input?: string
  output?: string
  metadata?: Readonly<Record<string, string>>
}): Uint8Array {
  const { trees, featureCount, base = 0, name = 'tree_ensemble', input = 'features', output = 'probability' } = options
  if (trees.length === 0) throw new OnnxError('an ensemble needs a tree')
  const table = flatten(trees, featureCount)
  return buildModel({
    name,
    inputs: [{ name: input, datatype: 'FP32', shape: [-1, featureCount] }],
    outputs: [{ name: output, datatype: 'FP32', shape: [-1, 1] }],
    opsets: { '': 21, 'ai.onnx.ml': 3 },
    nodes: [
      {
        operator: 'TreeEnsembleRegressor',
        domain: 'ai.onnx.ml',
        inputs: [input],
        outputs: ['score'],
        attributes: {
          aggregate_function: { text: 'SUM' },
          post_transform: { text: 'NONE' },
          n_targets: { int: 1 },
          base_values: { floats: [base] },
          nodes_treeids: { ints: table.treeIds },
          nodes_nodeids: { ints: table.nodeIds },
          nodes_featureids: { ints: table.features },
          nodes_values: { floats: table.thresholds },
          nodes_modes: { texts: table.modes },
          nodes_truenodeids: { ints: table.lefts },
          nodes_falsenodeids: { ints: table.rights },
          nodes_missing_value_tracks_true: { ints: table.missingLefts },
          target_treeids: { ints: table.leafTreeIds },
          target_nodeids: { ints: table.leafNodeIds },
          target_ids: { ints: table.leafTreeIds.map(() => 0) },
          target_weights: { floats: table.leafValues },
        },
      },
      { operator: 'Sigmoid', inputs: ['score'], outputs: [output] },
    ],
    ...(options.metadata ? { metadata: options.metadata } : {}),
  })
}

function emptyTable() {
  return {
    treeIds: [] as number[],
    nodeIds: [] as number[],
    features: [] as number[],
    thresholds: [] as number[],
    modes: [] as string[],
    lefts: [] as number[],
    rights: [] as number[],
    missingLefts: [] as number[],
    leafTreeIds: [] as number[],
    leafNodeIds: [] as number[],
    leafValues: [] as number[],
  }
}

/** The trees as the parallel lists that the operator takes, each tree's nodes numbered from 0 in the order of a walk. */
function flatten(trees: readonly Tree[], featureCount: number): ReturnType<typeof emptyTable> {
  const table = emptyTable()
  for (const [treeId, tree] of trees.entries()) {
    let count = 0
    const add = (node: Tree): number => {
      const id = count++
      const row = table.nodeIds.length
      const split = 'feature' in node ? node : undefined
      if (split && !(split.feature >= 0 && split.feature < featureCount)) {
        throw new OnnxError(`tree ${treeId} splits on feature ${split.feature} of ${featureCount}`)
      }
      table.treeIds.push(treeId)
      table.nodeIds.push(id)
      table.features.push(split?.feature ?? 0)
      table.thresholds.push(split ? roundDown(split.threshold) : 0)
      table.modes.push(split ? 'BRANCH_LEQ' : 'LEAF')
      table.missingLefts.push(split?.missingLeft ? 1 : 0)
      table.lefts.push(0)
      table.rights.push(0)
      if (split) {
        table.lefts[row] = add(split.left)
        table.rights[row] = add(split.right)
      } else if ('value' in node) {
        table.leafTreeIds.push(treeId)
        table.leafNodeIds.push(id)
        table.leafValues.push(node.value)
      }
      return id
    }
    add(tree)
  }
  return table
}

/** The largest 32-bit float that is not above the number. */
function roundDown(value: number): number {
  const near = Math.fround(value)
  if (!(near > value)) return near
  const bits = new DataView(new ArrayBuffer(4))
  bits.setFloat32(0, near)
  if (near === 0) return -1.401298464324817e-45
  bits.setInt32(0, bits.getInt32(0) + (near > 0 ? -1 : 1))
  return bits.getFloat32(0)
}
