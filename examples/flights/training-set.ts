/** A training set from the feature store, from spine to matrix. */
import { randomUUID } from 'node:crypto'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { downloadDataset, uploadSpine } from '@slipway/client'
import type { FeatureStoreService } from '@slipway/proto/slipway/features/v1/feature_store_service'
import { AsOf, type Dataset } from '@slipway/proto/slipway/features/v1/feature_store_service'
import type { Client } from '@slipway/rpc'
import type { Matrix } from './boosting.ts'
import { featureServiceName, modelColumns } from './definitions.ts'
import { untilAnswered } from './retry.ts'
import type { DistanceUnit, FlightQuery, Upstream } from './upstream.ts'

/** Rows of flights with the features that were known at each departure, in the order of departures. */
export interface FlightRows {
  readonly matrix: Matrix
  /** 1 where the flight was late. */
  readonly labels: Uint8Array
  /** Departures, microseconds since the epoch. */
  readonly timesMicros: BigInt64Array
}

/** A training set and the dataset that it is. */
export interface TrainingSet {
  readonly dataset: Dataset
  /** The flights that were asked for. */
  readonly query: FlightQuery
  readonly rows: FlightRows
}

/** What `makeTrainingSet` needs. */
export interface TrainingSetOptions {
  readonly upstream: Pick<Upstream, 'writeSpine'>
  readonly store: Client<typeof FeatureStoreService>
  readonly query: FlightQuery
  readonly unit: DistanceUnit
  /** A folder for the files. */
  readonly directory: string
  readonly onProgress: (done: number, stage: string) => void
}

/** Asks the feature store for the features that were known at each flight's departure. */
export async function makeTrainingSet(options: TrainingSetOptions): Promise<TrainingSet> {
  const { upstream, store, query, unit, onProgress } = options
  const directory = join(options.directory, randomUUID())
  await mkdir(directory, { recursive: true })
  const spine = join(directory, 'spine.parquet')
  await upstream.writeSpine(query, unit, spine)
  const spineDigest = await uploadSpine(store, await readFile(spine))
  const dataset = await untilAnswered(() => createDataset(store, spineDigest, onProgress), 60_000)
  const files = await downloadDataset(store, dataset, directory)
  return { dataset, query, rows: await readRows(files) }
}

async function createDataset(
  store: TrainingSetOptions['store'],
  spineDigest: string,
  onProgress: TrainingSetOptions['onProgress'],
): Promise<Dataset> {
  let dataset: Dataset | undefined
  const request = { spineDigest, featureService: featureServiceName, asOf: AsOf.KNOWN }
  for await (const progress of store.createTrainingSet(request, { timeoutMs: 120_000 })) {
    onProgress(progress.percent / 100, progress.stage)
    dataset = progress.dataset ?? dataset
  }
  if (dataset === undefined) throw new Error('the feature store ended without a dataset')
  return dataset
}

async function readRows(files: readonly string[]): Promise<FlightRows> {
  const instance = await DuckDBInstance.create(':memory:')
  const connection = await instance.connect()
  try {
    const list = files.map((file) => `'${file}'`).join(', ')
    const columns = modelColumns.map((name) => `"${name}"::double`).join(', ')
    const result = await connection.runAndReadAll(
      `select late::int, epoch_us(event_time)::double, ${columns} from read_parquet([${list}]) order by event_time, flight`,
    )
    const [late = [], times = [], ...values] = result.getColumns()
    return {
      matrix: {
        names: modelColumns,
        columns: values.map((column) =>
          Float32Array.from(column, (value) => (value === null ? Number.NaN : Number(value))),
        ),
        rows: late.length,
      },
      labels: Uint8Array.from(late, Number),
      timesMicros: BigInt64Array.from(times, (time) => BigInt(Number(time))),
    }
  } finally {
    connection.closeSync()
    instance.closeSync()
  }
}

/** The rows whose departures lie in `[fromMicros, toMicros)`. */
export function rowsBetween(rows: FlightRows, fromMicros: bigint, toMicros: bigint): FlightRows {
  return rowsWhere(rows, (timeMicros) => timeMicros >= fromMicros && timeMicros < toMicros)
}

/** The rows whose departures are chosen. */
export function rowsWhere(rows: FlightRows, isChosen: (timeMicros: bigint) => boolean): FlightRows {
  const chosen = rows.timesMicros.reduce<number[]>((places, time, place) => {
    if (isChosen(time)) places.push(place)
    return places
  }, [])
  const timesMicros = BigInt64Array.from(chosen, (place) => rows.timesMicros[place] ?? 0n)
  return {
    matrix: {
      names: rows.matrix.names,
      columns: rows.matrix.columns.map((column) => Float32Array.from(chosen, (place) => column[place] ?? Number.NaN)),
      rows: chosen.length,
    },
    labels: Uint8Array.from(chosen, (place) => rows.labels[place] ?? 0),
    timesMicros,
  }
}
