/**
 * Carries changes from the ledger to the bus: at least once, in the order of revisions, from the last one that the bus
 * acknowledged, also after a restart. While the bus is away it tries again; the registry itself never waits for it. A
 * change that is too large for any bus is left out, and said so.
 */
import type { EventBus } from '@slipway/events'
import { encodeEvent, limits, recordBytes, topics } from '@slipway/events'
import { logger } from '@slipway/telemetry'
import type { Ledger } from './ledger.ts'

const cursorName = 'bus'
const log = logger('slipway.registry')

/** What the outbox needs. */
export interface OutboxOptions {
  readonly ledger: Ledger
  readonly bus: EventBus
  /** Changes published at once. */
  readonly batchSize: number
  /** Longest time between two looks at the ledger, and between two tries. */
  readonly maxWaitMs: number
}

/** A running outbox. */
export interface Outbox {
  /** Ends after the batch on its way. */
  stop(): Promise<void>
}

/** Starts publishing. */
export function startOutbox(options: OutboxOptions): Outbox {
  const controller = new AbortController()
  const done = run(options, controller.signal)
  return {
    stop: async () => {
      controller.abort()
      await done
    },
  }
}

async function run(options: OutboxOptions, signal: AbortSignal): Promise<void> {
  const { ledger, maxWaitMs } = options
  let failures = 0
  while (!signal.aborted) {
    try {
      const published = await readCursor(ledger)
      const moved = await publishNext(options, published, signal)
      failures = 0
      if (!moved) await ledger.wait(published, maxWaitMs, signal)
    } catch (error) {
      if (signal.aborted) return
      failures += 1
      if (failures === 1) log.warn('changes wait for the event bus', { error })
      await pause(Math.min(maxWaitMs, 100 * 2 ** Math.min(failures, 10)), signal)
    }
  }
}

async function publishNext(options: OutboxOptions, published: number, signal: AbortSignal): Promise<boolean> {
  const { ledger, bus, batchSize } = options
  const changes = await ledger.read(published, batchSize)
  const last = changes.at(-1)
  if (last === undefined) return false
  const records = changes.map((change) => encodeEvent(topics.registry, { change }))
  // No bus will ever take these: they must not hold up the others. Whoever watches the registry gets them all.
  const [fitting = [], tooLarge = []] = [true, false].map((fits) =>
    records.filter((record) => recordBytes(record) <= limits.maxRecordBytes === fits),
  )
  for (const { key, value } of tooLarge)
    log.error('a change is too large for the bus and is left out', { key, bytes: value.length })
  await bus.publish(fitting, { signal })
  const revision = Number(last.revision)
  await ledger.database
    .insertInto('cursors')
    .values({ name: cursorName, revision })
    .onConflict((conflict) => conflict.column('name').doUpdateSet({ revision }))
    .execute()
  return true
}

async function readCursor(ledger: Ledger): Promise<number> {
  const sql = ledger.database.selectFrom('cursors').select('revision').where('name', '=', cursorName)
  return (await sql.executeTakeFirst())?.revision ?? 0
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  await new Promise<void>((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done, { once: true })
  })
}
