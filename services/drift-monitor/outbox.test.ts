import { type EventBus, type EventRecord, limits } from '@slipway/events'
import { migrate, openSqlite } from '@slipway/storage'
import { expect, test } from 'vitest'
import { startOutbox } from './outbox.ts'
import { migrations, type Schema } from './schema.ts'

test('an event that is too large for the bus does not hold up those after it', async () => {
  const database = openSqlite<Schema>({ path: ':memory:' })
  await migrate(database, migrations)
  const sent: string[] = []
  const bus = {
    publish: async (records: readonly EventRecord[]) => {
      if (records.some(({ value }) => value.length > limits.maxRecordBytes)) throw new Error('too large')
      sent.push(...records.map(({ key }) => key))
    },
  }
  for (const [index, bytes] of [1, limits.maxRecordBytes + 1, 1].entries()) {
    const row = { number: index + 1, topic: 't', key: `k${index}`, value: new Uint8Array(bytes), headers: '{}' }
    await database.insertInto('outbox').values(row).execute()
  }
  const outbox = startOutbox({ database, bus: bus as unknown as EventBus })
  await expect.poll(() => sent).toEqual(['k0', 'k2'])
  await expect.poll(async () => await database.selectFrom('outbox').selectAll().execute()).toEqual([])
  await outbox.stop()
  await database.destroy()
})
