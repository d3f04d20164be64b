/** Predictions that nobody waits for: requests from the bus, results to the bus and to webhooks. */
import { join } from 'node:path'
import { consume, type EventBus, isBusClosed, topics } from '@slipway/events'
import { AsyncPredictionService } from '@slipway/proto/slipway/inference/v1/async_prediction_service'
import { type Implementation, implement } from '@slipway/rpc'
import { migrate, openSqlite } from '@slipway/storage'
import { logger } from '@slipway/telemetry'
import type { Inference } from '../infer.ts'
import { Processor } from './processor.ts'
import { ResultIndex } from './result-index.ts'
import { migrations, type Schema } from './schema.ts'
import { createAsyncPredictionService } from './service.ts'
import type { AsyncPredictionSettings } from './settings.ts'
import { refuseWebhook } from './webhook-target.ts'
import { Webhooks } from './webhooks.ts'

/** Requests of one partition that are answered together. */
export const MAX_BATCH_REQUESTS = 256

const GROUP = 'slipway-inference-async'

/** What asynchronous predictions need from around them. */
export interface AsyncPredictionsOptions extends AsyncPredictionSettings {
  readonly bus: EventBus
  readonly inference: Inference
  /** Folder that is this server's own. */
  readonly directory: string
}

/** The room, wired. */
export interface AsyncPredictions {
  readonly implementations: readonly Implementation[]
  /** Begins to answer; call it when models are there. Goes on trying while the bus is away. */
  start(): void
  /** Ends, once the bus is closed: a start may still wait for it. What was not answered is answered by whoever comes next. */
  stop(): Promise<void>
}

/** Makes the room; nothing is read from the bus before `start`. */
export async function createAsyncPredictions(options: AsyncPredictionsOptions): Promise<AsyncPredictions> {
  const { bus, inference, directory, asyncResultRetentionMs: retentionMs, webhookSecret: secret } = options
  const database = openSqlite<Schema>({ path: join(directory, 'async.db') })
  await migrate(database, migrations)
  const index = new ResultIndex({ database, bus, directory, retentionMs })
  const webhooks = secret === undefined ? undefined : new Webhooks({ database, bus, secret, retentionMs })
  const refuse = (url: string) => refuseWebhook(url, options)
  const processor = new Processor({ bus, index, inference, retryMs: options.asyncRetryMs, refuseWebhook: refuse })
  let starting: Promise<void> | undefined
  const start = async (): Promise<void> => {
    await index.start()
    await webhooks?.start()
    await consume(bus, topics.asyncRequests, {
      group: GROUP,
      maxBatchRecords: MAX_BATCH_REQUESTS,
      handle: async (events, { signal }) => await processor.handle(events, signal),
    })
  }
  return {
    implementations: [
      implement(AsyncPredictionService, createAsyncPredictionService({ bus, index, webhooks, refuseWebhook: refuse })),
    ],
    start() {
      starting ??= start().catch((error: unknown) => {
        if (!isBusClosed(error)) logger('slipway.inference').error('asynchronous requests cannot be read', { error })
      })
    },
    async stop() {
      await starting
      await webhooks?.stop()
      await index.stop()
      await database.destroy()
    },
  }
}
