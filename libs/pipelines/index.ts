/** Pipelines: graphs of models and expressions that answer as one version. Checked and evaluated here, run by whoever serves. */
export {
  type CheckedExpressionStep,
  type CheckedModelStep,
  type CheckedPipeline,
  type CheckedStep,
  checkPipeline,
  modelKey,
  readsOf,
} from './check.ts'
export { readingCost, type Size } from './cost.ts'
export { type Expression, MAX_EXPRESSION_CHARACTERS, MAX_ROW_COST, MAX_VALUE_SIZE } from './expression.ts'
export { ExpressionError } from './expression-error.ts'
export { invalidPipeline, MAX_PIPELINE_BYTES, PIPELINE_FILE, readPipeline } from './read.ts'
export { INPUT, neededBy, type TensorName, tensorText } from './references.ts'
export { type PlacedRows, placeRows, selectRows, zeroRows } from './row-selection.ts'
export type { CompiledBranch, CompiledOutput, Signature } from './step-check.ts'
export { type Rows, rowsOf, type Tensor, TensorBuilder } from './tensor.ts'
