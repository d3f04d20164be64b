import { microsFromTimestamp } from '@slipway/resources'
import { migrate, openSqlite } from '@slipway/storage'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Ledger } from './ledger.ts'
import { migrations, type Schema } from './schema.ts'

let ledger: Ledger
let clock: bigint[]

beforeEach(async () => {
  clock = []
  const database = openSqlite<Schema>({ path: ':memory:' })
  await migrate(database, migrations)
  ledger = new Ledger({ database, nowMicros: () => clock.shift() ?? 1000n })
})

afterEach(async () => {
  await ledger.database.destroy()
})

async function write(id: string): Promise<void> {
  await ledger.change('tester', async (change) => {
    await change.record(id, { case: 'model', value: { name: `models/${id}` } })
  })
}

test('changes at once get revisions from 1 without a gap, each with who did it', async () => {
  await Promise.all(Array.from({ length: 40 }, (_, index) => write(`m${index}`)))
  const changes = await ledger.read(0, 100)
  expect(changes.map(({ revision }) => Number(revision))).toEqual(Array.from({ length: 40 }, (_, index) => index + 1))
  expect(new Set(changes.map(({ actor }) => actor))).toEqual(new Set(['tester']))
  expect((await ledger.read(38, 100)).map(({ revision }) => revision)).toEqual([39n, 40n])
  expect(await ledger.latestRevision()).toBe(40)
})

test('a change that fails leaves neither data nor a revision', async () => {
  await write('a')
  const failing = ledger.change('tester', async (change) => {
    await change.sql.insertInto('cursors').values({ name: 'x', revision: 1 }).execute()
    await change.record('b', { case: 'model', value: { name: 'models/b' } })
    throw new Error('no')
  })
  await expect(failing).rejects.toThrow('no')
  await write('c')
  expect((await ledger.read(0, 10)).map(({ revision }) => revision)).toEqual([1n, 2n])
  expect(await ledger.database.selectFrom('cursors').selectAll().execute()).toEqual([])
})

test('times rise with revisions when the clock stands still or goes back', async () => {
  clock = [5000n, 5000n, 10n, 9000n]
  for (const id of ['a', 'b', 'c', 'd']) await write(id)
  const times = (await ledger.read(0, 10)).map(({ time }) => time && microsFromTimestamp(time))
  expect(times).toEqual([5000n, 5001n, 5002n, 9000n])
})

test('who waits behind the newest revision is woken by the next change, and who is behind does not wait', async () => {
  const { signal } = new AbortController()
  await write('a')
  const waiting = ledger.wait(1, 60_000, signal)
  await write('b')
  await waiting
  await ledger.wait(1, 60_000, signal)
})

test('waiting ends with the signal and with its time', async () => {
  const controller = new AbortController()
  const waiting = ledger.wait(0, 60_000, controller.signal)
  controller.abort()
  await waiting
  await ledger.wait(0, 60_000, controller.signal)
  await ledger.wait(0, 1, new AbortController().signal)
})

test('a database of the first migration is brought to the newest with its rows', async () => {
  const database = openSqlite<{ models: Omit<Schema['models'], 'request_id'> }>({ path: ':memory:' })
  await migrate(database, migrations.slice(0, 1))
  const row = { id: 'a', message: new Uint8Array(), revision: 1, latest_version: 0 }
  await database.insertInto('models').values(row).execute()
  await migrate(database, migrations)
  expect(await database.selectFrom('models').selectAll().execute()).toMatchObject([{ id: 'a', request_id: '' }])
  await database.destroy()
})
