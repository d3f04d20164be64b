import type { Kysely, Transaction } from 'kysely'

/** One step of a schema. Once released it is never edited: what comes later is a migration of its own. */
export interface Migration {
  /** Position in the list, from 1 without a gap. */
  readonly number: number
  /** What it does, in a few words; recorded, so that an edited history is noticed. */
  readonly name: string
  /** Makes the step; portable statements only, through Kysely's schema builder or `sql`. */
  up(transaction: Transaction<unknown>): Promise<void>
}

type MigrationLog = { slipway_migrations: { number: number; name: string } }

/**
 * Brings a database to the newest migration. Each one runs once, in a transaction that also records it, so a process
 * killed half-way leaves a database that the next start continues. Refuses a database that is newer than the code or
 * whose history differs from it.
 */
export async function migrate<Schema>(database: Kysely<Schema>, migrations: readonly Migration[]): Promise<void> {
  migrations.forEach((migration, index) => {
    if (migration.number !== index + 1) throw new Error(`migration "${migration.name}" must have number ${index + 1}`)
  })
  const log = database.withTables<MigrationLog>()
  await log.schema
    .createTable('slipway_migrations')
    .ifNotExists()
    .addColumn('number', 'integer', (column) => column.primaryKey())
    .addColumn('name', 'text', (column) => column.notNull())
    .execute()
  while (await applyNext(database, migrations)) {
    // Each turn applies one migration; what another process applied meanwhile is seen inside the transaction.
  }
}

async function applyNext<Schema>(database: Kysely<Schema>, migrations: readonly Migration[]): Promise<boolean> {
  return await database
    .transaction()
    .setIsolationLevel('serializable')
    .execute(async (transaction) => {
      const log = (transaction as unknown as Transaction<unknown>).withTables<MigrationLog>()
      const applied = await log.selectFrom('slipway_migrations').selectAll().orderBy('number').execute()
      applied.forEach(({ number, name }) => {
        const known = migrations[number - 1]
        if (known === undefined) throw new Error(`the database has migration ${number} "${name}", newer than this code`)
        if (known.name !== name)
          throw new Error(`migration ${number} is "${known.name}" here, "${name}" in the database`)
      })
      const next = migrations[applied.length]
      if (next === undefined) return false
      await next.up(transaction as unknown as Transaction<unknown>)
      await log.insertInto('slipway_migrations').values({ number: next.number, name: next.name }).execute()
      return true
    })
}
