import { create, type MessageInitShape } from '@bufbuild/protobuf'
import {
  type FeatureBinding,
  FeatureType,
  type OutputBinding,
  type ReferenceDistribution,
  ReferenceDistributionSchema,
  ReferenceKind,
} from '@slipway/proto/slipway/registry/v1/model'
import { durationFromMicros, timestampFromMicros } from '@slipway/resources'
import { type CountedReference, categoricalReference, numericReference, type ReferenceOptions } from '@slipway/stats'

/** A value of a row: numbers and booleans for numeric features, text for categories, null or undefined when missing. */
export type RowValue = number | bigint | boolean | string | null | undefined

/** A row of the training set by the names of features and outputs. */
export interface TrainingRow {
  /** When what the row describes was true, microseconds since the epoch. */
  readonly timeMicros: bigint
  readonly values: Readonly<Record<string, RowValue>>
}

/** What reference distributions are built from. */
export interface ReferenceSource extends ReferenceOptions {
  /** The features to count, as the version binds them; text is counted by category, everything else by quantile bins. */
  readonly features: readonly Pick<FeatureBinding, 'feature' | 'type'>[]
  /** The outputs to count, when the rows carry what the version answered to them. */
  readonly outputs?: readonly Pick<OutputBinding, 'output'>[]
  /** The rows of the training set, in any order. */
  readonly rows: Iterable<TrainingRow> | AsyncIterable<TrainingRow>
}

interface Column {
  readonly name: string
  readonly kind: ReferenceKind
  readonly isText: boolean
  readonly values: (number | string | null)[]
}

/**
 * Counts how features and outputs were distributed in a training set, day by day, over frozen bins: what a version is
 * registered with, so that drift can later be told from the days' ordinary spread. Throws a RangeError that names the
 * column when a numeric one has no finite value, and a TypeError when a value is not of its column's type.
 */
export async function buildReferenceDistributions(source: ReferenceSource): Promise<ReferenceDistribution[]> {
  const columns = columnsOf(source)
  const times: bigint[] = []
  for await (const row of source.rows) {
    times.push(row.timeMicros)
    for (const column of columns) column.values.push(cellValue(column, row.values[column.name]))
  }
  return columns.map((column) => toDistribution(column, count(column, times, source)))
}

function columnsOf(source: ReferenceSource): Column[] {
  const features = source.features.map(({ feature, type }) => {
    return { name: feature, kind: ReferenceKind.FEATURE, isText: type === FeatureType.STRING, values: [] }
  })
  const outputs = (source.outputs ?? []).map(({ output }) => {
    return { name: output, kind: ReferenceKind.OUTPUT, isText: false, values: [] }
  })
  return [...features, ...outputs]
}

function cellValue(column: Column, value: RowValue): number | string | null {
  if (value === null || value === undefined) return null
  if (column.isText !== (typeof value === 'string')) {
    throw new TypeError(`${column.name} holds a ${typeof value}, not ${column.isText ? 'text' : 'a number'}`)
  }
  return typeof value === 'string' ? value : Number(value)
}

function count(column: Column, times: readonly bigint[], options: ReferenceOptions): CountedReference {
  if (column.isText) return categoricalReference(column.values as (string | null)[], times, options)
  const values = column.values as (number | null)[]
  if (!values.some((value) => Number.isFinite(value))) throw new RangeError(`${column.name} has no finite value`)
  return numericReference(values, times, options)
}

function toDistribution(column: Column, counted: CountedReference): ReferenceDistribution {
  const cells: MessageInitShape<typeof ReferenceDistributionSchema>['cells'] =
    'edges' in counted.cells
      ? { case: 'numeric', value: { edges: [...counted.cells.edges] } }
      : { case: 'categorical', value: { values: [...counted.cells.categories] } }
  return create(ReferenceDistributionSchema, {
    name: column.name,
    kind: column.kind,
    cells,
    windows: counted.windows.map((window) => ({
      startTime: timestampFromMicros(window.startMicros),
      length: durationFromMicros(window.lengthMicros),
      counts: window.counts.map(BigInt),
    })),
    mean: counted.mean,
    standardDeviation: counted.standardDeviation,
  })
}
