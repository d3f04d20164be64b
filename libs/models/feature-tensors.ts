/** Rows of named feature values as the tensors that a version takes, by its bindings. */
import { elementOf } from '@slipway/onnx'
import { type FeatureBinding, MissingPolicy, type TensorSpec } from '@slipway/proto/slipway/registry/v1/model'
import type { RowValue } from './reference-distributions.ts'

/** What is needed of a binding. */
export type BoundColumn = Pick<FeatureBinding, 'feature' | 'input' | 'column' | 'missingPolicy' | 'defaultValue'>

/** A tensor in raw form: little-endian, row-major; BYTES as elements of a 4-byte length and that many bytes. */
export interface FeatureTensor {
  readonly name: string
  readonly datatype: string
  readonly shape: readonly bigint[]
  readonly raw: Uint8Array
}

/** A value that does not fit its column, or is not there where the version refuses to predict without. */
export class FeatureValueError extends RangeError {
  readonly feature: string
  readonly row: number

  constructor(feature: string, row: number, problem: string) {
    super(`${feature} of row ${row} ${problem}`)
    this.feature = feature
    this.row = row
  }
}

type Rows = readonly Readonly<Record<string, RowValue>>[]

/**
 * Puts rows into tensors. Throws a {@link FeatureValueError} about a value, a RangeError about a tensor that features
 * cannot make: half floats, more than two dimensions, a column without a feature.
 */
export function featureTensors(
  inputs: readonly Pick<TensorSpec, 'name' | 'datatype' | 'shape'>[],
  features: readonly BoundColumn[],
  rows: Rows,
): FeatureTensor[] {
  return inputs.map((input) => {
    const columns = columnsOf(input, features)
    const raw = input.datatype === 'BYTES' ? texts(columns, rows) : numbers(input.datatype, columns, rows)
    const shape = input.shape.length === 1 ? [rows.length] : [rows.length, columns.length]
    return { name: input.name, datatype: input.datatype, shape: shape.map(BigInt), raw }
  })
}

function columnsOf(
  { name, shape }: Pick<TensorSpec, 'name' | 'shape'>,
  features: readonly BoundColumn[],
): readonly BoundColumn[] {
  if (shape.length !== 1 && shape.length !== 2)
    throw new RangeError(`input ${name} has ${shape.length} dimensions: features make one or two`)
  const columns: BoundColumn[] = []
  for (const feature of features) if (feature.input === name) columns[feature.column] = feature
  const declared = shape.length === 1 ? 1 : Number(shape[1])
  const width = declared < 0 ? columns.length : declared
  const isWhole = width > 0 && columns.length === width && Object.keys(columns).length === width
  if (!isWhole) throw new RangeError(`input ${name} has columns that no feature is bound to`)
  return columns
}

function numbers(datatype: string, columns: readonly BoundColumn[], rows: Rows): Buffer {
  const element = elementOf(datatype)
  if (element === undefined) throw new RangeError(`features cannot be put into a tensor of ${datatype}`)
  const bytes = Buffer.alloc(rows.length * columns.length * element.sizeBytes)
  let at = 0
  for (const [row, values] of rows.entries()) {
    for (const column of columns) {
      const value = values[column.feature] ?? replacement(column, row, datatype)
      if (typeof value === 'string') throw new FeatureValueError(column.feature, row, 'is a text, not a number')
      if (!element.write(bytes, at, typeof value === 'boolean' ? Number(value) : value))
        throw new FeatureValueError(column.feature, row, `does not fit datatype ${datatype}`)
      at += element.sizeBytes
    }
  }
  return bytes
}

function texts(columns: readonly BoundColumn[], rows: Rows): Buffer {
  const pieces: Buffer[] = []
  for (const [row, values] of rows.entries()) {
    for (const column of columns) {
      const value = values[column.feature]
      if (value === undefined || value === null) throw missing(column, row)
      if (typeof value !== 'string') throw new FeatureValueError(column.feature, row, 'is a number, not a text')
      const text = Buffer.from(value)
      const length = Buffer.alloc(4)
      length.writeUInt32LE(text.length)
      pieces.push(length, text)
    }
  }
  return Buffer.concat(pieces)
}

function replacement(column: BoundColumn, row: number, datatype: string): number {
  if (column.missingPolicy === MissingPolicy.DEFAULT) return column.defaultValue
  if (column.missingPolicy !== MissingPolicy.REFUSE && datatype.startsWith('FP')) return Number.NaN
  throw missing(column, row)
}

function missing({ feature }: BoundColumn, row: number): FeatureValueError {
  return new FeatureValueError(feature, row, 'has no value, and the version refuses to predict without it')
}
