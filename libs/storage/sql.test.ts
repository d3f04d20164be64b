import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Generated, type Kysely, sql } from 'kysely'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Migration, migrate } from './migrate.ts'
import { openSqlite } from './sql.ts'

interface Schema {
  things: { id: Generated<number>; name: string; size: number | bigint | null; data: Uint8Array | null; active: number }
  parts: { thing_id: number }
}

const migrations: readonly Migration[] = [
  {
    number: 1,
    name: 'things',
    up: async (transaction) => {
      await sql`CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, size BIGINT, data BLOB, active INTEGER)`.execute(
        transaction,
      )
      await sql`CREATE TABLE parts (thing_id INTEGER NOT NULL REFERENCES things (id))`.execute(transaction)
    },
  },
]

let directory: string
let path: string
let database: Kysely<Schema>

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'slipway-sql-'))
  path = join(directory, 'below', 'test.db')
  database = openSqlite<Schema>({ path })
  await migrate(database, migrations)
})

afterEach(async () => {
  await database.destroy()
  rmSync(directory, { recursive: true, force: true })
})

function thing(name: string) {
  return { name, size: null, data: null, active: 1 }
}

test('values come back as they were written', async () => {
  const row = { name: 'a', size: 2 ** 53 - 1, data: new Uint8Array([0, 255]), active: 0 }
  const inserted = await database.insertInto('things').values(row).executeTakeFirstOrThrow()
  expect(inserted.insertId).toBe(1n)
  expect(await database.selectFrom('things').selectAll().execute()).toEqual([{ id: 1, ...row }])
})

test('an integer beyond 2^53 is an error of the read, not a rounded number', async () => {
  await database
    .insertInto('things')
    .values({ ...thing('a'), size: 2n ** 53n + 1n })
    .execute()
  await expect(database.selectFrom('things').selectAll().execute()).rejects.toThrow(/too large/)
})

test('an update counts the rows it changed and a returning insert gives its rows', async () => {
  const [row] = await database.insertInto('things').values(thing('a')).returning(['id', 'name']).execute()
  expect(row).toEqual({ id: 1, name: 'a' })
  const updated = await database.updateTable('things').set({ active: 0 }).where('id', '=', 1).executeTakeFirstOrThrow()
  expect(updated.numUpdatedRows).toBe(1n)
})

test('rows stream one by one while other statements use the same text', async () => {
  await database
    .insertInto('things')
    .values([thing('a'), thing('b'), thing('c')])
    .execute()
  const names: string[] = []
  for await (const row of database.selectFrom('things').select('name').orderBy('id').stream()) names.push(row.name)
  expect(names).toEqual(['a', 'b', 'c'])
})

test('a transaction that throws leaves nothing behind', async () => {
  const attempt = database.transaction().execute(async (transaction) => {
    await transaction.insertInto('things').values(thing('a')).execute()
    throw new Error('stop')
  })
  await expect(attempt).rejects.toThrow('stop')
  expect(await database.selectFrom('things').selectAll().execute()).toEqual([])
})

test('statements outside a transaction wait for it and never see its unfinished writes', async () => {
  let counted: Promise<number> | undefined
  await database.transaction().execute(async (transaction) => {
    await transaction.insertInto('things').values(thing('a')).execute()
    counted = database
      .selectFrom('things')
      .selectAll()
      .execute()
      .then((rows) => rows.length)
    await transaction.insertInto('things').values(thing('b')).execute()
  })
  expect(await counted).toBe(2)
})

test('concurrent read-modify-write transactions on two connections lose no update', async () => {
  const other = openSqlite<Schema>({ path })
  await database
    .insertInto('things')
    .values({ ...thing('counter'), size: 0 })
    .execute()
  const increment = async (connection: Kysely<Schema>): Promise<void> => {
    await connection.transaction().execute(async (transaction) => {
      const row = await transaction
        .selectFrom('things')
        .select('size')
        .where('name', '=', 'counter')
        .executeTakeFirstOrThrow()
      await transaction
        .updateTable('things')
        .set({ size: Number(row.size) + 1 })
        .where('name', '=', 'counter')
        .execute()
    })
  }
  // One at a time per connection: both live on this thread, where waiting for a lock blocks.
  for (let turn = 0; turn < 20; turn++) await increment(turn % 2 === 0 ? database : other)
  const row = await database.selectFrom('things').select('size').executeTakeFirstOrThrow()
  await other.destroy()
  expect(row.size).toBe(20)
})

test('foreign keys are enforced', async () => {
  await expect(database.insertInto('parts').values({ thing_id: 7 }).execute()).rejects.toThrow(/FOREIGN KEY/)
})

test('the file is in WAL mode and commits wait for the disk', async () => {
  const journal = await sql<{ journal_mode: string }>`PRAGMA journal_mode`.execute(database)
  const synchronous = await sql<{ synchronous: number }>`PRAGMA synchronous`.execute(database)
  expect([journal.rows[0]?.journal_mode, synchronous.rows[0]?.synchronous]).toEqual(['wal', 2])
})

test('a value that SQL has no type for is refused', async () => {
  const wrong = { ...thing('a'), name: undefined as unknown as string }
  await expect(sql`SELECT ${new Date()}`.execute(database)).rejects.toThrow(/cannot bind object/)
  await expect(database.insertInto('things').values(wrong).execute()).rejects.toThrow()
})

test('migrations run once, in order, and a failed one leaves no trace', async () => {
  const add: Migration = {
    number: 2,
    name: 'one thing',
    up: async (transaction) => {
      await sql`INSERT INTO things (name, active) VALUES ('migrated', 1)`.execute(transaction)
    },
  }
  const fail: Migration = {
    number: 3,
    name: 'fails',
    up: async (transaction) => {
      await sql`INSERT INTO things (name, active) VALUES ('half', 1)`.execute(transaction)
      throw new Error('half-way')
    },
  }
  await migrate(database, [...migrations, add])
  await expect(migrate(database, [...migrations, add, fail])).rejects.toThrow('half-way')
  await migrate(database, [...migrations, add])
  expect(await database.selectFrom('things').select('name').execute()).toEqual([{ name: 'migrated' }])
})

test('a database that is newer than the code, or of another history, is refused', async () => {
  await expect(migrate(database, [])).rejects.toThrow(/newer than this code/)
  const renamed = migrations.map((migration) => ({ ...migration, name: 'other' }))
  await expect(migrate(database, renamed)).rejects.toThrow(/"other" here, "things" in the database/)
  await expect(migrate(database, [{ number: 2, name: 'x', up: async () => {} }])).rejects.toThrow(/must have number 1/)
})
