/**
 * Embedded SQL: Kysely over `node:sqlite`.
 *
 * 1. A commit that returned survives the loss of the process and of power (WAL, `synchronous = FULL`).
 * 2. A write transaction takes the write lock when it begins, so it never fails half-way because another process wrote
 *    in between; it waits up to `busyTimeoutMs` for the lock. Transactions are serializable at any isolation level asked.
 * 3. Integers come back as numbers; one beyond 2^53 is an error of the read, never a rounded value.
 * 4. Foreign keys are enforced.
 *
 * Services see only `Kysely<Schema>`: another engine is another `open…` function beside `openSqlite`, and `migrate` asks
 * nothing of the engine but transactional DDL.
 */
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite'
import {
  CompiledQuery,
  type DatabaseConnection,
  type Driver,
  Kysely,
  type SqliteDatabase,
  SqliteDialect,
  type SqliteDialectConfig,
  SqliteDriver,
  type SqliteStatement,
  type TransactionSettings,
} from 'kysely'

/** Where an embedded database lies and how long it waits for other processes. */
export interface SqliteOptions {
  /** Path of the file; its folder is made when missing. `:memory:` for a database that lives as long as it is open. */
  readonly path: string
  /** How long a statement waits for another process's lock, default 5000. */
  readonly busyTimeoutMs?: number
}

/** Opens a SQLite file on first use; `destroy()` closes it. */
export function openSqlite<Schema>(options: SqliteOptions): Kysely<Schema> {
  return new Kysely<Schema>({ dialect: new NodeSqliteDialect({ database: async () => open(options) }) })
}

class NodeSqliteDialect extends SqliteDialect {
  readonly #config: SqliteDialectConfig

  constructor(config: SqliteDialectConfig) {
    super(config)
    this.#config = config
  }

  override createDriver(): Driver {
    return new NodeSqliteDriver(this.#config)
  }
}

class NodeSqliteDriver extends SqliteDriver {
  override async beginTransaction(connection: DatabaseConnection, settings?: TransactionSettings): Promise<void> {
    const begin = settings?.accessMode === 'read only' ? 'begin deferred' : 'begin immediate'
    await connection.executeQuery(CompiledQuery.raw(begin))
  }
}

function open(options: SqliteOptions): SqliteDatabase {
  if (options.path !== ':memory:') mkdirSync(dirname(options.path), { recursive: true })
  const database = new DatabaseSync(options.path, {
    timeout: options.busyTimeoutMs ?? 5000,
    enableForeignKeyConstraints: true,
  })
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF')
  const statements = new StatementCache(database, 256)
  return { close: () => database.close(), prepare: (text) => statements.get(text) }
}

/** Keeps the most recently used prepared statements. */
class StatementCache {
  readonly #database: DatabaseSync
  readonly #capacity: number
  readonly #byText = new Map<string, SqliteStatement>()

  constructor(database: DatabaseSync, capacity: number) {
    this.#database = database
    this.#capacity = capacity
  }

  get(text: string): SqliteStatement {
    const statement = this.#byText.get(text) ?? this.#prepare(text)
    this.#byText.delete(text)
    this.#byText.set(text, statement)
    if (this.#byText.size > this.#capacity) {
      for (const oldest of this.#byText.keys()) {
        this.#byText.delete(oldest)
        break
      }
    }
    return statement
  }

  #prepare(text: string): SqliteStatement {
    const prepare = (): StatementSync => this.#database.prepare(text)
    const statement = prepare()
    return {
      reader: statement.columns().length > 0,
      all: (parameters) => statement.all(...parameters.map(bindable)),
      run: (parameters) => statement.run(...parameters.map(bindable)),
      // A statement of its own: a shared one would be reset under the reader by the next use.
      iterate: (parameters) => prepare().iterate(...parameters.map(bindable)),
    }
  }
}

function bindable(value: unknown): SQLInputValue {
  if (value === null || typeof value === 'number' || typeof value === 'bigint' || typeof value === 'string')
    return value
  if (typeof value === 'boolean') return value ? 1 : 0
  if (value instanceof Uint8Array) return value
  throw new TypeError(`cannot bind ${typeof value} to a statement`)
}
