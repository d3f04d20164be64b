/** What a version's predictions are held against: its columns, in the order in which their counts are kept. */
import type { PredictionLogged } from '@slipway/proto/slipway/events/v1/prediction'
import { FeatureStatus } from '@slipway/proto/slipway/events/v1/prediction'
import { type ModelVersion, ReferenceKind } from '@slipway/proto/slipway/registry/v1/model'
import { type Column, columnOf, type Packing, packingOf } from './column.ts'

/** A version as the monitor knows it. */
export interface Baseline {
  readonly digest: string
  /** `models/{model}/versions/{number}`. */
  readonly modelVersion: string
  readonly datasetDigest: string
  readonly columns: readonly Column[]
  /** Cells of all columns together. */
  readonly cellCount: number
  /** What keeps it from being judged, in whole or in part; empty when all is well. */
  readonly problem: string
  /** Counts one prediction into cells: calls `count` with the index of each cell that it falls into. */
  readonly eachCell: (prediction: PredictionLogged, count: (cell: number) => void) => void
}

interface FeatureReader {
  readonly column: Column
  readonly feature: number
  readonly packing: Packing
  /** Position within its packed column. */
  readonly position: number
}

interface OutputReader {
  readonly column: Column
  readonly position: number
}

/** Builds the baseline of a version from its bindings and reference distributions. */
export function baselineOf(version: ModelVersion): Baseline {
  const columns: Column[] = []
  const problems: string[] = []
  const add = (name: string, kind: ReferenceKind): Column | undefined => {
    const distribution = version.referenceDistributions.find((each) => each.name === name && each.kind === kind)
    if (distribution === undefined) {
      problems.push(`${name} has no reference distribution`)
      return undefined
    }
    const column = columnOf(distribution, cellsOf(columns))
    if (typeof column === 'string') problems.push(column)
    else columns.push(column)
    return typeof column === 'string' ? undefined : column
  }
  const features = featureReaders(version, (name) => add(name, ReferenceKind.FEATURE))
  const outputs = version.outputs.flatMap(({ output }, position): OutputReader[] => {
    const column = add(output, ReferenceKind.OUTPUT)
    return column === undefined ? [] : [{ column, position }]
  })
  return {
    digest: version.digest,
    modelVersion: version.name,
    datasetDigest: version.lineage?.datasetDigest ?? '',
    columns,
    cellCount: cellsOf(columns),
    problem: problems.join('; '),
    eachCell: (prediction, count) => {
      for (const reader of features)
        count(reader.column.firstCell + reader.column.cellOf(featureValue(prediction, reader)))
      for (const { column, position } of outputs) count(column.firstCell + column.cellOf(prediction.outputs[position]))
    },
  }
}

/** The baseline of a version that the registry does not know. */
export function unknownBaseline(digest: string, modelVersion: string, problem: string): Baseline {
  return { digest, modelVersion, datasetDigest: '', columns: [], cellCount: 0, problem, eachCell: () => {} }
}

function featureReaders(version: ModelVersion, columnFor: (name: string) => Column | undefined): FeatureReader[] {
  const next: Record<Packing, number> = { doubles: 0, int64s: 0, strings: 0 }
  return version.features.flatMap((binding, feature): FeatureReader[] => {
    const packing = packingOf(binding.type)
    const position = next[packing]
    next[packing] += 1
    const column = columnFor(binding.feature)
    return column === undefined ? [] : [{ column, feature, packing, position }]
  })
}

function featureValue(prediction: PredictionLogged, reader: FeatureReader): number | string | undefined {
  const status = prediction.featureStatuses[reader.feature] ?? FeatureStatus.UNSPECIFIED
  if (status > FeatureStatus.PRESENT) return undefined
  const value = prediction[reader.packing][reader.position]
  if (typeof value === 'bigint') return Number(value)
  const isGap = status === FeatureStatus.UNSPECIFIED && typeof value === 'number' && Number.isNaN(value)
  return isGap ? undefined : value
}

function cellsOf(columns: readonly Column[]): number {
  return columns.reduce((sum, { cellCount }) => sum + cellCount, 0)
}
