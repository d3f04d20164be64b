/** A feature store for tests: the real service on a free port, in a folder of its own. */
import { createHash, randomUUID } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { DuckDBInstance } from '@duckdb/node-api'
import {
  type CreateTrainingSetRequestSchema,
  type Dataset,
  FeatureStoreService,
} from '@slipway/proto/slipway/features/v1/feature_store_service'
import { type FeatureRowSchema, type Value, ValueSchema, ValueType } from '@slipway/proto/slipway/features/v1/value'
import { timestampFromMicros } from '@slipway/resources'
import { type Client, createClient } from '@slipway/rpc'
import type { RunningService } from '@slipway/service'
import { start } from './main.ts'

/** A row as requests take it. */
export type RowInit = MessageInitShape<typeof FeatureRowSchema>

/** A feature store that runs, and its folder. */
export interface TestStore {
  readonly directory: string
  readonly client: Client<typeof FeatureStoreService>
  /** Stops the service and starts it again on the same folder. */
  restart(whileAway?: () => Promise<unknown>): Promise<void>
  stop(): Promise<void>
}

/** What can be called. */
export type Serving = Pick<TestStore, 'client'>

/** Starts one. */
export async function startTestStore(settings: Readonly<Record<string, string>> = {}): Promise<TestStore> {
  const directory = mkdtempSync(join(tmpdir(), 'slipway-features-'))
  const env = storeEnvironment(directory, settings)
  let running: RunningService = await start(env)
  let client = createClient(FeatureStoreService, { address: running.address })
  return {
    directory,
    get client() {
      return client
    },
    restart: async (whileAway) => {
      client.close()
      await running.stop()
      await whileAway?.()
      running = await start(env)
      client = createClient(FeatureStoreService, { address: running.address })
    },
    stop: async () => {
      client.close()
      await running.stop()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** The settings of a feature store in a folder. */
export function storeEnvironment(directory: string, settings: Readonly<Record<string, string>> = {}) {
  return {
    SLIPWAY_LISTEN: '127.0.0.1:0',
    SLIPWAY_DATA_DIR: directory,
    SLIPWAY_FEATURE_STORE_DRAIN_GRACE: '100ms',
    ...settings,
  }
}

/** Values by their types. */
export const value = {
  double: (value: number): Value => create(ValueSchema, { kind: { case: 'doubleValue', value } }),
  int64: (value: bigint): Value => create(ValueSchema, { kind: { case: 'int64Value', value } }),
  text: (value: string): Value => create(ValueSchema, { kind: { case: 'stringValue', value } }),
  bool: (value: boolean): Value => create(ValueSchema, { kind: { case: 'boolValue', value } }),
  bytes: (value: Uint8Array<ArrayBuffer>): Value => create(ValueSchema, { kind: { case: 'bytesValue', value } }),
  time: (micros: bigint): Value =>
    create(ValueSchema, { kind: { case: 'timestampValue', value: timestampFromMicros(micros) } }),
} as const

/** Second `s` of the tests' calendar, microseconds since the epoch. */
export const at = (seconds: number): bigint => 1_000_000_000_000_000n + BigInt(Math.round(seconds * 1_000_000))

/** Creates entity `airport`, view `traffic` (flights, delay; no ttl unless given) and feature service `late`. */
export async function defineTraffic({ client }: Serving, ttlSeconds = 0): Promise<void> {
  await client.createEntity({
    entity: { name: 'entities/airport', joinKey: 'origin', type: ValueType.STRING },
  })
  await client.createFeatureView({
    featureView: {
      name: 'featureViews/traffic',
      entities: ['entities/airport'],
      features: [
        { name: 'flights', type: ValueType.INT64 },
        { name: 'delay', type: ValueType.DOUBLE },
      ],
      ttl: { seconds: BigInt(ttlSeconds) },
    },
  })
  await client.createFeatureService({
    featureService: { name: 'featureServices/late', features: ['traffic:flights', 'traffic:delay'] },
  })
}

/** A row of `traffic`: what was true of an airport from a second on, and when that became known. */
export function trafficRow(
  origin: string,
  event: number,
  values: { flights?: bigint; delay?: number },
  created = event,
): RowInit {
  return {
    featureView: 'featureViews/traffic',
    entityKeys: { origin: value.text(origin) },
    eventTime: timestampFromMicros(at(event)),
    createdTime: timestampFromMicros(at(created)),
    sequence: 0n,
    values: {
      ...(values.flights === undefined ? {} : { flights: value.int64(values.flights) }),
      ...(values.delay === undefined ? {} : { delay: value.double(values.delay) }),
    },
  }
}

/** Rows of a query, as JavaScript values. */
export async function query(sql: string): Promise<Record<string, unknown>[]> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' })
  const connection = await instance.connect()
  try {
    return (await connection.runAndReadAll(sql)).getRowObjectsJS()
  } finally {
    connection.closeSync()
    instance.closeSync()
  }
}

/** Writes a query's rows as Parquet and gives the bytes. */
export async function parquetOf(sql: string): Promise<Buffer> {
  const directory = mkdtempSync(join(tmpdir(), 'slipway-spine-'))
  try {
    await query(`copy (${sql}) to '${join(directory, 'spine.parquet')}' (format parquet)`)
    return readFileSync(join(directory, 'spine.parquet'))
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Uploads bytes as a spine; gives their digest. */
export async function uploadSpine({ client }: Serving, content: Uint8Array): Promise<string> {
  const bytes = new Uint8Array(content)
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
  const uploadId = randomUUID()
  async function* pieces() {
    for (let offset = 0; offset < bytes.length; offset += 500_000) {
      yield { uploadId, offset: BigInt(offset), chunk: bytes.subarray(offset, offset + 500_000) }
    }
    yield { uploadId, offset: BigInt(bytes.length), digest }
  }
  return (await client.uploadSpine(pieces())).digest
}

/** A spine from seconds of the tests' calendar. */
export async function uploadSpineOf(store: Serving, rows: readonly (readonly [string, number])[]): Promise<string> {
  const list = rows.map(([origin, second], place) => `(${place}, '${origin}', make_timestamp(${at(second)}))`)
  return await uploadSpine(
    store,
    await parquetOf(`select * from (values ${list.join(', ')}) t(id, origin, event_time)`),
  )
}

/** Makes a training set and gives its manifest. */
export async function createTrainingSet(
  { client }: Serving,
  request: MessageInitShape<typeof CreateTrainingSetRequestSchema>,
): Promise<Dataset> {
  for await (const { dataset } of client.createTrainingSet(request)) if (dataset !== undefined) return dataset
  throw new Error('the stream ended without a dataset')
}

/** Downloads a dataset's only file. */
export async function downloadDataset({ client }: Serving, { name, files }: Dataset): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const { chunk } of client.downloadDataset({ name, path: files[0]?.path ?? '' })) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** Downloads a dataset and reads its rows. */
export async function readDataset(store: Serving, dataset: Dataset): Promise<Record<string, unknown>[]> {
  const directory = mkdtempSync(join(tmpdir(), 'slipway-dataset-'))
  try {
    const path = join(directory, 'training-set.parquet')
    writeFileSync(path, await downloadDataset(store, dataset))
    return await query(`select * from '${path}'`)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
