/** The tables of the embedded row store: what is served, the journal behind it, and the parts that the journal became. */
import { DatabaseSync } from 'node:sqlite'
import { type Migration, migrate, openSqlite } from '@slipway/storage'
import { sql } from 'kysely'

const migrations: readonly Migration[] = [
  {
    number: 1,
    name: 'online rows, journal, parts',
    up: async (transaction) => {
      const statements = [
        sql`CREATE TABLE online_rows (
          table_id INTEGER NOT NULL, key BLOB NOT NULL, event INTEGER NOT NULL, created INTEGER NOT NULL,
          sequence INTEGER NOT NULL, deleted INTEGER NOT NULL, payload BLOB NOT NULL,
          PRIMARY KEY (table_id, key, event, created, sequence)) WITHOUT ROWID`,
        sql`CREATE TABLE tables (
          table_id INTEGER PRIMARY KEY, newest_event INTEGER NOT NULL, forgotten_before INTEGER NOT NULL)`,
        sql`CREATE TABLE journal (
          table_id INTEGER NOT NULL, first_revision INTEGER NOT NULL, last_revision INTEGER NOT NULL,
          rows BLOB NOT NULL, PRIMARY KEY (table_id, first_revision))`,
        sql`CREATE TABLE parts (
          table_id INTEGER NOT NULL, first_revision INTEGER NOT NULL, last_revision INTEGER NOT NULL,
          path TEXT NOT NULL, row_count INTEGER NOT NULL, PRIMARY KEY (table_id, first_revision))`,
        sql`CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL)`,
        sql`INSERT INTO counters VALUES ('revision', 0)`,
      ]
      for (const statement of statements) await statement.execute(transaction)
    },
  },
]

/** Opens the row store's file, brought to the newest schema. A commit survives the loss of power. */
export async function openRowTables(path: string): Promise<DatabaseSync> {
  const schema = openSqlite<unknown>({ path })
  await migrate(schema, migrations)
  await schema.destroy()
  const database = new DatabaseSync(path, { timeout: 5000, readBigInts: true })
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -65536')
  return database
}

/** The views of which anything is kept, by their numbers. */
export function keptTableIds(database: DatabaseSync): number[] {
  const rows = database
    .prepare('select table_id from tables union select table_id from journal union select table_id from parts')
    .all()
  return rows.map((row) => Number(row.table_id))
}

/** Runs a step in a write transaction. */
export function inTransaction<T>(database: DatabaseSync, step: () => T): T {
  database.exec('begin immediate')
  try {
    const result = step()
    database.exec('commit')
    return result
  } catch (error) {
    if (database.isTransaction) database.exec('rollback')
    throw error
  }
}
