/**
 * Carries events from the database to the bus, in order and at least once, also after a restart. Their ids stay the same,
 * so readers notice what comes twice. While the bus is away counting goes on.
 */
import type { EventBus } from '@slipway/events'
import { logger } from '@slipway/telemetry'
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
        const published = await publishNext(options, stopping.signal)
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

async function publishNext({ database, bus }: { database: Kysely<Schema>; bus: EventBus }, signal: AbortSignal) {
  const rows = await database.selectFrom('outbox').selectAll().orderBy('number').limit(limits.outboxBatch).execute()
  const last = rows.at(-1)
  if (last === undefined) return false
  await bus.publish(
    rows.map(({ topic, key, value, headers }) => ({ topic, key, value, headers: JSON.parse(headers) })),
    { signal },
  )
  await database.deleteFrom('outbox').where('number', '<=', last.number).execute()
  return true
}
