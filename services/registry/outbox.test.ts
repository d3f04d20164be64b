import { type EventBus, type EventRecord, limits } from '@slipway/events'
import { migrate, openSqlite } from '@slipway/storage'
import { expect, test } from 'vitest'
import { Ledger } from './ledger.ts'
import { startOutbox } from './outbox.ts'
import { migrations, type Schema } from './schema.ts'

test('a change that is too large for the bus does not hold up those after it', async () => {
  const database = openSqlite<Schema>({ path: ':memory:' })
  await migrate(database, migrations)
  const ledger = new Ledger({ database, nowMicros: () => 1000n })
  const sent: EventRecord[] = []
  const bus = {
    publish: async (records: readonly EventRecord[]) => {
      if (records.some(({ value }) => value.length > limits.maxRecordBytes)) throw new Error('too large')
      sent.push(...records)
    },
  }
  for (const description of ['small', 'x'.repeat(limits.maxRecordBytes), 'small too']) {
    await ledger.change('tester', async (change) => {
      await change.record('m', { case: 'model', value: { name: 'models/m', description } })
    })
  }
  const outbox = startOutbox({ ledger, bus: bus as unknown as EventBus, batchSize: 10, maxWaitMs: 50 })
  await expect.poll(() => sent.length).toBe(2)
  await outbox.stop()
  await database.destroy()
})
