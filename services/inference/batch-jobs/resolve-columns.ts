/** How columns become tensors, and tensors columns: by what the caller said, or by the version's bindings. Pure. */
import { create } from '@bufbuild/protobuf'
import type { TensorSpec } from '@slipway/onnx'
import {
  type ColumnMapping,
  ColumnMappingSchema,
  ColumnSourceSchema,
} from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import { type FeatureBinding, MissingPolicy, type OutputBinding } from '@slipway/proto/slipway/registry/v1/model'
import { Failure } from '@slipway/rpc'
import { hasNaN } from './part-query.ts'
import type { InputColumn, InputTensor, Missing, OutputTensor } from './recipe.ts'

const COLUMNS_FIELD = 'batch_job.files.columns'
const OUTPUTS_FIELD = 'batch_job.options.outputs'

/** What is known of a version besides its signature; empty where there is no registry. */
export interface Bindings {
  readonly features: readonly FeatureBinding[]
  readonly outputs: readonly OutputBinding[]
}

/** A mapping for every input: what was given, or what the bindings say, or a column of each input's name. */
export function mapColumns(
  inputs: readonly TensorSpec[],
  given: readonly ColumnMapping[],
  bindings: Bindings,
): readonly ColumnMapping[] {
  const unknown = given.find(({ input }) => !inputs.some(({ name }) => name === input))
  if (unknown !== undefined) throw Failure.invalid(COLUMNS_FIELD, `the model has no input ${unknown.input}`)
  return inputs.map(({ name }) => {
    const mappings = given.filter(({ input }) => input === name)
    if (mappings.length > 1) throw Failure.invalid(COLUMNS_FIELD, `input ${name} is mapped twice`)
    const [mapping] = mappings
    if (mapping !== undefined) return mapping
    if (given.length > 0) throw Failure.invalid(COLUMNS_FIELD, `input ${name} is not mapped`)
    const bound = bindings.features.filter(({ input }) => input === name).toSorted((a, b) => a.column - b.column)
    if (bound.length === 0) return mappingOf(name, [{ column: name }])
    if (bound.some(({ column }, index) => column !== index)) {
      throw Failure.invalid(COLUMNS_FIELD, `the features of input ${name} do not fill its columns: map them`)
    }
    return mappingOf(
      name,
      bound.map(({ feature, missingPolicy, defaultValue }) => ({ column: feature, missingPolicy, defaultValue })),
    )
  })
}

/** The tensors that a mapping fills. INVALID_ARGUMENT where the columns are too few or too many. */
export function inputTensors(inputs: readonly TensorSpec[], mappings: readonly ColumnMapping[]): InputTensor[] {
  return inputs.map((spec, index) => {
    const columns = mappings[index]?.columns ?? []
    const rest = spec.shape.slice(1)
    const dims = rest.map((size) => (size < 0 && rest.length === 1 ? columns.length : size))
    if (dims.some((size) => size < 0)) {
      throw Failure.invalid(COLUMNS_FIELD, `input ${spec.name} has dimensions of no fixed size: [${spec.shape}]`)
    }
    const width = dims.reduce((product, size) => product * size, 1)
    const isList = columns.length === 1 && width > 1
    if (columns.length !== width && !isList) {
      throw Failure.invalid(
        COLUMNS_FIELD,
        `input ${spec.name} has ${width} values a row, ${columns.length} columns are mapped`,
      )
    }
    const { name, datatype } = spec
    return { name, datatype, dims, isList, columns: columns.map((column) => inputColumn(spec, column)) }
  })
}

/** The outputs wanted and the columns that they fill, named as the bindings say. */
export function outputTensors(
  outputs: readonly TensorSpec[],
  wanted: readonly string[],
  bindings: Bindings,
): OutputTensor[] {
  const unknown = wanted.find((name) => !outputs.some((output) => output.name === name))
  if (unknown !== undefined) throw Failure.invalid(OUTPUTS_FIELD, `the model has no output ${unknown}`)
  const names = wanted.length === 0 ? outputs.map(({ name }) => name) : wanted
  return outputs
    .filter(({ name }) => names.includes(name))
    .map(({ name, datatype, shape }) => {
      const dims = shape.slice(1)
      if (dims.some((size) => size < 0)) {
        throw Failure.invalid(
          OUTPUTS_FIELD,
          `output ${name} has dimensions of no fixed size, [${shape}]: choose others`,
        )
      }
      const width = dims.reduce((product, size) => product * size, 1)
      const bound = bindings.outputs.filter(({ tensor }) => tensor === name)
      const all = Array.from({ length: width }, (_, index) => ({
        name: width === 1 ? name : `${name}_${index}`,
        index,
      }))
      const columns = bound.length === 0 ? all : bound.map(({ output, column }) => ({ name: output, index: column }))
      return { name, datatype, width, columns }
    })
}

function mappingOf(
  input: string,
  columns: readonly { column: string; missingPolicy?: MissingPolicy; defaultValue?: number }[],
): ColumnMapping {
  return create(ColumnMappingSchema, { input, columns: columns.map((column) => create(ColumnSourceSchema, column)) })
}

function inputColumn(spec: TensorSpec, source: ColumnMapping['columns'][number]): InputColumn {
  return { column: source.column, missing: missingOf(spec, source) }
}

function missingOf({ name, datatype }: TensorSpec, source: ColumnMapping['columns'][number]): Missing {
  const { missingPolicy, defaultValue, column } = source
  switch (missingPolicy) {
    case MissingPolicy.REFUSE:
      return { kind: 'refuse' }
    case MissingPolicy.DEFAULT:
      return { kind: 'value', value: defaultValue }
    case MissingPolicy.NAN:
      if (!hasNaN(datatype))
        throw Failure.invalid(COLUMNS_FIELD, `column ${column}: ${datatype} of input ${name} has no NaN`)
      return { kind: 'value', value: null }
    default:
      return hasNaN(datatype) ? { kind: 'value', value: null } : { kind: 'refuse' }
  }
}
