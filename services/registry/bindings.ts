/** Checks what a version declares about its tensors against what its graph says. Pure. */
import {
  type FeatureBinding,
  FeatureSource,
  FeatureType,
  MissingPolicy,
  type OutputBinding,
  type Signature,
  type TensorSpec,
} from '@slipway/proto/slipway/registry/v1/model'
import type { FieldViolation } from '@slipway/rpc'

const floats = ['FP16', 'FP32', 'FP64', 'BF16']
const integers = ['INT8', 'INT16', 'INT32', 'INT64', 'UINT8', 'UINT16', 'UINT32', 'UINT64']

/** Datatypes that hold every value of a feature type without a change of meaning. */
const datatypesByType: Readonly<Record<number, readonly string[]>> = {
  [FeatureType.DOUBLE]: floats,
  [FeatureType.INT64]: [...floats, ...integers],
  [FeatureType.BOOL]: ['BOOL', ...floats, ...integers],
  [FeatureType.STRING]: ['BYTES'],
}

/** The bindings of a version as the caller declared them. */
export interface Bindings {
  readonly features: readonly FeatureBinding[]
  readonly outputs: readonly OutputBinding[]
  readonly featureService: string
}

/** Every problem of the bindings; empty when they fit the signature. */
export function checkBindings(bindings: Bindings, signature: Signature): FieldViolation[] {
  return [
    ...bindings.features.flatMap((feature, index) => {
      const problems = [...checkSource(feature, bindings.featureService), ...checkFeature(feature, signature)]
      return problems.map((problem) => at(`features[${index}]`, problem))
    }),
    ...bindings.outputs.flatMap((output, index) =>
      checkOutput(output, signature).map((problem) => at(`outputs[${index}]`, problem)),
    ),
    ...repeated(bindings.features, 'features', 'feature', (feature) => feature.feature),
    ...repeated(bindings.features, 'features', 'column', (feature) => `${feature.input}[${feature.column}]`),
    ...repeated(bindings.outputs, 'outputs', 'output', (output) => output.output),
    ...checkCoverage(bindings.features, signature),
  ]
}

/** The outputs that a version has when it names none: each numeric tensor of one value a row, by its own name. */
export function defaultOutputs(signature: Signature): Pick<OutputBinding, 'output' | 'tensor' | 'column'>[] {
  return signature.outputs
    .filter((tensor) => tensor.datatype !== 'BYTES' && columnsOf(tensor) === 1)
    .filter((tensor) => /^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(tensor.name))
    .map((tensor) => ({ output: tensor.name, tensor: tensor.name, column: 0 }))
}

/** Values a row of a tensor whose first dimension counts rows; undefined when only the rows themselves tell. */
export function columnsOf(tensor: TensorSpec): number | undefined {
  if (tensor.shape.length < 2) return tensor.shape.length
  const last = tensor.shape.slice(1).reduce((product, size) => (size < 0n ? -1n : product * size), 1n)
  return last < 0n || tensor.shape.slice(1).some((size) => size < 0n) ? undefined : Number(last)
}

interface Problem {
  readonly field: string
  readonly description: string
}

function at(path: string, problem: Problem): FieldViolation {
  return { field: `${path}.${problem.field}`, description: problem.description }
}

function checkSource(feature: FeatureBinding, featureService: string): Problem[] {
  const problems: Problem[] = []
  if (feature.source === FeatureSource.FEATURE_STORE) {
    if (!/^[^:\s]+:[^:\s]+$/.test(feature.reference)) {
      problems.push({ field: 'reference', description: 'must be {view}:{feature} for a feature of the feature store' })
    }
    if (featureService === '') {
      problems.push({ field: 'source', description: 'needs feature_service to be set' })
    }
  } else if (feature.reference !== '') {
    problems.push({ field: 'reference', description: 'must be empty for a feature of the request' })
  }
  return problems
}

function checkFeature(feature: FeatureBinding, signature: Signature): Problem[] {
  const tensor = signature.inputs.find((input) => input.name === feature.input)
  if (tensor === undefined) return [{ field: 'input', description: noSuchTensor(feature.input, signature.inputs) }]
  const problems = checkColumn(feature.column, tensor)
  const fitting = datatypesByType[feature.type] ?? []
  if (!fitting.includes(tensor.datatype)) {
    const description = `cannot fill a tensor of ${tensor.datatype}, only ${fitting.join(', ')}`
    problems.push({ field: 'type', description })
  }
  return [...problems, ...checkMissing(feature, tensor)]
}

function checkMissing(feature: FeatureBinding, tensor: TensorSpec): Problem[] {
  const isFloat = floats.includes(tensor.datatype)
  if (feature.missingPolicy === MissingPolicy.NAN && !isFloat) {
    return [{ field: 'missing_policy', description: `a tensor of ${tensor.datatype} has no NaN` }]
  }
  if (feature.missingPolicy !== MissingPolicy.DEFAULT) return []
  if (tensor.datatype === 'BYTES') {
    return [{ field: 'missing_policy', description: 'a default value is a number, and the tensor holds text' }]
  }
  if (!isFloat && !Number.isInteger(feature.defaultValue)) {
    return [{ field: 'default_value', description: `must be an integer for a tensor of ${tensor.datatype}` }]
  }
  return []
}

function checkOutput(output: OutputBinding, signature: Signature): Problem[] {
  const tensor = signature.outputs.find((candidate) => candidate.name === output.tensor)
  if (tensor === undefined) return [{ field: 'tensor', description: noSuchTensor(output.tensor, signature.outputs) }]
  if (tensor.datatype === 'BYTES') return [{ field: 'tensor', description: 'holds text; outputs are numbers' }]
  return checkColumn(output.column, tensor)
}

function checkColumn(column: number, tensor: TensorSpec): Problem[] {
  if (tensor.shape.length === 0 || tensor.shape.length > 2) {
    const shape = `[${tensor.shape.join(', ')}]`
    return [{ field: 'column', description: `${tensor.name} has the shape ${shape}, not rows of columns` }]
  }
  const columns = columnsOf(tensor)
  if (columns === undefined || column < columns) return []
  const description = `${tensor.name} has ${columns === 1 ? 'one column' : `the columns 0 to ${columns - 1}`}`
  return [{ field: 'column', description }]
}

/** A version that binds features binds every column, otherwise nobody could fill the tensors. */
function checkCoverage(features: readonly FeatureBinding[], signature: Signature): FieldViolation[] {
  if (features.length === 0) return []
  return signature.inputs.flatMap((tensor) => {
    const bound = new Set(features.filter((feature) => feature.input === tensor.name).map((feature) => feature.column))
    const columns = columnsOf(tensor) ?? Math.max(0, ...bound) + 1
    if (columns > features.length + 1000) {
      return [{ field: 'features', description: `bind ${bound.size} of the ${columns} columns of ${tensor.name}` }]
    }
    const missing = Array.from({ length: columns }, (_, column) => column).filter((column) => !bound.has(column))
    if (missing.length === 0) return []
    const shown = missing.length > 8 ? `${missing.slice(0, 8).join(', ')}, …` : missing.join(', ')
    return [{ field: 'features', description: `bind nothing to ${tensor.name}, column ${shown}` }]
  })
}

function repeated<T>(items: readonly T[], path: string, field: string, keyOf: (item: T) => string): FieldViolation[] {
  const seen = new Map<string, number>()
  return items.flatMap((item, index) => {
    const key = keyOf(item)
    const first = seen.get(key)
    if (first === undefined) seen.set(key, index)
    return first === undefined ? [] : [{ field: `${path}[${index}].${field}`, description: `${key} is bound twice` }]
  })
}

function noSuchTensor(name: string, tensors: readonly TensorSpec[]): string {
  const names = tensors.slice(0, 8).map((tensor) => tensor.name)
  return `the graph has no tensor '${name}' there, only ${names.join(', ')}${tensors.length > 8 ? ', …' : ''}`
}
