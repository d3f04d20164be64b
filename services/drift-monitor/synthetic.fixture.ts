/** A version with synthetic features, and predictions of it, for tests. */
import { create } from '@bufbuild/protobuf'
import {
  FeatureStatus,
  type PredictionLogged,
  PredictionLoggedSchema,
} from '@slipway/proto/slipway/events/v1/prediction'
import {
  FeatureSource,
  FeatureType,
  type ModelVersion,
  ModelVersionSchema,
  type ReferenceDistribution,
  ReferenceDistributionSchema,
  ReferenceKind,
} from '@slipway/proto/slipway/registry/v1/model'
import { timestampFromMicros } from '@slipway/resources'
import { type CountedReference, categoricalReference, createRandom, numericReference } from '@slipway/stats'

const HOUR = 3_600_000_000n
const DAY = 24n * HOUR

/** First moment after the reference: a midnight. */
export const liveStartMicros = BigInt(Date.UTC(2001, 2, 1)) * 1000n

/** A row of the synthetic world: when, how busy it is, how far, and where; what the model would say. */
export interface SyntheticRow {
  readonly timeMicros: bigint
  readonly load: number
  readonly distance: number | undefined
  readonly carrier: string
  readonly score: number
}

/** Rows of some days from a midnight on: `load` has good and bad days, the rest is the same every day. */
export function syntheticRows(
  seed: number | string,
  fromMicros: bigint,
  days: number,
  rowsPerDay: number,
): SyntheticRow[] {
  const random = createRandom(seed)
  return Array.from({ length: days }, (_, day) => {
    const mood = random.normal() * 0.5
    const times = Array.from({ length: rowsPerDay }, () => BigInt(Math.floor(random.uniform() * Number(DAY)))).sort(
      (a, b) => (a < b ? -1 : 1),
    )
    return times.map((time): SyntheticRow => {
      const distance = Math.exp(6 + 0.7 * random.normal())
      const score = 1 / (1 + Math.exp(-(random.normal() + distance / 1000 - 1)))
      const carrier = ['AA', 'UA', 'DL'][random.integer(3)] ?? ''
      return {
        timeMicros: fromMicros + BigInt(day) * DAY + time,
        load: mood + random.normal(),
        distance,
        carrier,
        score,
      }
    })
  }).flat()
}

/** A version whose reference is `days` days of the synthetic world before the live ones. */
export function syntheticVersion(digest: string, days = 42, rowsPerDay = 600): ModelVersion {
  const rows = syntheticRows('reference', liveStartMicros - BigInt(days) * DAY, days, rowsPerDay)
  const times = rows.map(({ timeMicros }) => timeMicros)
  const numeric = (values: (number | undefined)[]) => numericReference(values, times)
  return create(ModelVersionSchema, {
    name: 'models/flights/versions/1',
    digest,
    features: [
      binding('carrier', FeatureType.STRING, 0),
      binding('load', FeatureType.DOUBLE, 1),
      binding('distance', FeatureType.DOUBLE, 2),
      binding('hour', FeatureType.DOUBLE, 3),
    ],
    outputs: [{ output: 'late', tensor: 'probabilities', column: 1 }],
    lineage: { datasetDigest: 'sha256:data' },
    referenceDistributions: [
      distribution(
        'carrier',
        ReferenceKind.FEATURE,
        categoricalReference(
          rows.map((row) => row.carrier),
          times,
        ),
      ),
      distribution('load', ReferenceKind.FEATURE, numeric(rows.map((row) => row.load))),
      distribution('distance', ReferenceKind.FEATURE, numeric(rows.map((row) => row.distance))),
      distribution('hour', ReferenceKind.FEATURE, numeric(rows.map(hourOfDay))),
      distribution('late', ReferenceKind.OUTPUT, numeric(rows.map((row) => row.score))),
    ],
  })
}

/** The registry's message of counted cells. */
export function distribution(name: string, kind: ReferenceKind, counted: CountedReference): ReferenceDistribution {
  return create(ReferenceDistributionSchema, {
    name,
    kind,
    cells:
      'edges' in counted.cells
        ? { case: 'numeric', value: { edges: [...counted.cells.edges] } }
        : { case: 'categorical', value: { values: [...counted.cells.categories] } },
    windows: counted.windows.map(({ startMicros, lengthMicros, counts }) => ({
      startTime: timestampFromMicros(startMicros),
      length: { seconds: lengthMicros / 1_000_000n },
      counts: counts.map(BigInt),
    })),
    mean: counted.mean,
    standardDeviation: counted.standardDeviation,
  })
}

/** A row as the router logs it. */
export function logged(row: SyntheticRow, predictionId: string, digest: string, endpoint: string): PredictionLogged {
  return create(PredictionLoggedSchema, {
    predictionId,
    endpoint,
    variant: 'main',
    modelVersion: 'models/flights/versions/1',
    digest,
    samplingRate: 1,
    eventTime: timestampFromMicros(row.timeMicros),
    featureStatuses: [
      FeatureStatus.PRESENT,
      FeatureStatus.PRESENT,
      row.distance === undefined ? FeatureStatus.NULL_VALUE : FeatureStatus.PRESENT,
      FeatureStatus.PRESENT,
    ],
    doubles: [row.load, row.distance ?? Number.NaN, hourOfDay(row)],
    strings: [row.carrier],
    outputs: [row.score],
  })
}

function hourOfDay({ timeMicros }: SyntheticRow): number {
  return Number(timeMicros % DAY) / Number(HOUR)
}

function binding(feature: string, type: FeatureType, column: number) {
  return { feature, type, source: FeatureSource.REQUEST, input: 'input', column }
}
