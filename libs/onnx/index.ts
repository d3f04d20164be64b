export {
  type AttributeValue,
  buildModel,
  type Initializer,
  type ModelDescription,
  type NodeDescription,
} from './build.ts'
export { type Datatype, datatypeBytes, isDatatype } from './datatype.ts'
export { type Element, elementOf } from './elements.ts'
export { costModel, type DenseLayer, identityModel, mlpModel, randomLayers } from './graphs.ts'
export { OnnxError, type TensorSpec } from './model.ts'
export { type OnnxModel, readModel } from './read.ts'
export { type Tree, type TreeLeaf, type TreeSplit, treeEnsembleModel } from './trees.ts'
