/**
 * What became of asynchronous requests, read back from the bus by every server for itself.
 *
 * 1. Of several results of one request the first in the topic counts, on every server the same.
 * 2. After `caughtUp` has resolved, everything that was published before the call is in here.
 * 3. What is older than the retention is forgotten.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fromBinary, toBinary } from '@bufbuild/protobuf'
import { timestampMs } from '@bufbuild/protobuf/wkt'
import { type EventBus, type ReceivedRecord, type Subscription, topics } from '@slipway/events'
import {
  type AsyncPredictionAnswered,
  AsyncPredictionAnsweredSchema,
  AsyncPredictionRequestedSchema,
} from '@slipway/proto/slipway/events/v1/async_prediction'
import { logger } from '@slipway/telemetry'
import type { Kysely } from 'kysely'
import type { Schema } from './schema.ts'

/** What is known of one request. */
export interface KnownPrediction {
  readonly requestTimeMs: number
  readonly result: AsyncPredictionAnswered | undefined
}

/** What an index needs from around it. */
export interface ResultIndexOptions {
  readonly database: Kysely<Schema>
  readonly bus: EventBus
  /** Folder in which this server keeps the name that it reads the bus by. */
  readonly directory: string
  readonly retentionMs: number
}

const FORGET_EVERY_MS = 60_000
const NAME_FILE = 'reader'
const log = logger('slipway.inference')

/** See the top of this file. */
export class ResultIndex {
  readonly #options: ResultIndexOptions
  #subscription: Subscription | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(options: ResultIndexOptions) {
    this.#options = options
  }

  /** Begins to read; resolved means that what is published from now on will be read. */
  async start(): Promise<void> {
    const { bus, directory } = this.#options
    this.#subscription = await bus.subscribe({
      topics: [topics.asyncRequests.name, topics.asyncResults.name],
      group: `slipway-inference-async-index-${await readerName(directory)}`,
      handle: async (batch) => await this.#apply(batch),
    })
    this.#timer = setInterval(() => {
      this.forget(Date.now()).catch((error: unknown) => log.error('old results cannot be forgotten', { error }))
    }, FORGET_EVERY_MS).unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#subscription?.stop()
  }

  async caughtUp(): Promise<void> {
    await this.#subscription?.caughtUp()
  }

  /** Those of the requests that have a result. */
  async answered(requestIds: readonly string[]): Promise<ReadonlySet<string>> {
    if (requestIds.length === 0) return new Set()
    const rows = await this.#options.database
      .selectFrom('predictions')
      .select('request_id')
      .where('request_id', 'in', requestIds)
      .where('result', 'is not', null)
      .execute()
    return new Set(rows.map((row) => row.request_id))
  }

  async get(requestId: string): Promise<KnownPrediction | undefined> {
    const row = await this.#options.database
      .selectFrom('predictions')
      .select(['request_time_ms', 'result'])
      .where('request_id', '=', requestId)
      .executeTakeFirst()
    if (row === undefined) return undefined
    const result = row.result === null ? undefined : fromBinary(AsyncPredictionAnsweredSchema, row.result)
    return { requestTimeMs: row.request_time_ms, result }
  }

  /** Forgets what is older than the retention. */
  async forget(nowMs: number): Promise<void> {
    const { database, retentionMs } = this.#options
    await database
      .deleteFrom('predictions')
      .where('seen_ms', '<', nowMs - retentionMs)
      .execute()
  }

  async #apply(batch: readonly ReceivedRecord[]): Promise<void> {
    const rows = batch.flatMap((record) => rowOf(record) ?? [])
    if (rows.length === 0) return
    await this.#options.database.transaction().execute(async (transaction) => {
      for (const row of rows) {
        // A request that comes after its result, from another partition, changes nothing.
        await transaction
          .insertInto('predictions')
          .values(row)
          .onConflict((conflict) =>
            row.result === null
              ? conflict.column('request_id').doNothing()
              : conflict
                  .column('request_id')
                  .doUpdateSet({ result: row.result, seen_ms: row.seen_ms })
                  .where('predictions.result', 'is', null),
          )
          .execute()
      }
    })
  }
}

/** The row of a record; none for one that is not what its topic says: whoever answers requests parks it. */
function rowOf({ topic, value, timeMicros }: ReceivedRecord): Schema['predictions'] | undefined {
  const seenMs = Number(timeMicros / 1000n)
  try {
    if (topic === topics.asyncRequests.name) {
      const { requestId, requestTime } = fromBinary(AsyncPredictionRequestedSchema, value)
      const requestTimeMs = requestTime === undefined ? seenMs : timestampMs(requestTime)
      return { request_id: requestId, seen_ms: seenMs, request_time_ms: requestTimeMs, result: null }
    }
    const answered = fromBinary(AsyncPredictionAnsweredSchema, value)
    const requestTimeMs = answered.requestTime === undefined ? seenMs : timestampMs(answered.requestTime)
    const result = toBinary(AsyncPredictionAnsweredSchema, answered)
    return { request_id: answered.requestId, seen_ms: seenMs, request_time_ms: requestTimeMs, result }
  } catch {
    return undefined
  }
}

/** The name that this server reads the bus by, the same after a restart. */
async function readerName(directory: string): Promise<string> {
  const path = join(directory, NAME_FILE)
  await mkdir(directory, { recursive: true })
  try {
    await writeFile(path, randomUUID(), { flag: 'wx' })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  return (await readFile(path, 'utf8')).trim() || randomUUID()
}
