/**
 * Carries events from the database to the bus, in order and at least once, also after a restart. Their ids stay the same,
 * so readers notice what comes twice. While the bus is away counting goes on. An event that is too large for any bus is
 * left out, and said so.
 */
import { limits as busLimits, type EventBus, type EventRecord, recordBytes } from '@slipway/events'
import { type Logger, logger } from '@slipway/telemetry'
import type { Kysely } from 'kysely'
import { limits } from './limits.ts'
import { pause } from './pause.ts'
import type { Schema } from './schema.ts'

const RETRY_MIN_MS = 100
const RETRY_MAX_MS = 5000

/** A running outbox. */
export interface Outbox {
  /** There is something new to publish. */
  wake(): void
  /** Ends after the batch on its way. */
  stop(): Promise<void>
}

/** Starts publishing, with what an earlier run left. */
export function startOutbox(options: { database: Kysely<Schema>; bus: EventBus }): Outbox {
  const log = logger('slipway.drift-monitor')
  const stopping = new AbortController()
  let awake = Promise.withResolvers<void>()
  const wake = () => awake.resolve()
  const run = async () => {
    let failures = 0
    while (!stopping.signal.aborted) {
      try {
        const published = await publishNext(options, stopping.signal, log)
        failures = 0
        if (published) continue
        await awake.promise
        awake = Promise.withResolvers()
      } catch (error) {
        if (stopping.signal.aborted) return
        failures += 1
        if (failures === 1) log.warn('incidents wait for the event bus', { error })
        await pause(Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** failures), stopping.signal)
      }
    }
  }
  const done = run()
  return {
    wake,
    stop: async () => {
      stopping.abort()
      wake()
      await done
    },
  }
}

async function publishNext(
  { database, bus }: { database: Kysely<Schema>; bus: EventBus },
  signal: AbortSignal,
  log: Logger,
): Promise<boolean> {
  const rows = await database.selectFrom('outbox').selectAll().orderBy('number').limit(limits.outboxBatch).execute()
  const last = rows.at(-1)
  if (last === undefined) return false
  const records = rows.map(
    ({ topic, key, value, headers }): EventRecord => ({ topic, key, value, headers: JSON.parse(headers) }),
  )
  // No bus will ever take these: they must not hold up the others. What they tell of is in the database.
  const [fitting = [], tooLarge = []] = [true, false].map((fits) =>
    records.filter((record) => recordBytes(record) <= busLimits.maxRecordBytes === fits),
  )
  for (const record of tooLarge)
    log.error('an event is too large for the bus and is left out', { topic: record.topic, bytes: recordBytes(record) })
  await bus.publish(fitting, { signal })
  await database.deleteFrom('outbox').where('number', '<=', last.number).execute()
  return true
}
