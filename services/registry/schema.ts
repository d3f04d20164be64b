import type { Migration } from '@slipway/storage'
import { type RawBuilder, sql, type Transaction } from 'kysely'

/** The registry's tables. Messages are stored as protobuf; columns beside them exist to find, order and compare. */
export interface Schema {
  /** `message` is a Model without the fields that have a column. */
  models: { id: string; message: Uint8Array; revision: number; latest_version: number; request_id: string }
  /** `message` is a ModelVersion without reference distributions, gate and aliases; it never changes. */
  versions: {
    model_id: string
    number: number
    digest: string
    request_id: string
    request_digest: string
    message: Uint8Array
    reference_distributions: Uint8Array
    gate_state: number
    gate_report: Uint8Array | null
    serving_profile: Uint8Array | null
  }
  /** Every report there ever was. */
  gate_reports: { revision: number; model_id: string; number: number; message: Uint8Array }
  /** Where each alias points now; `number` is null once it was removed. */
  aliases: { model_id: string; alias: string; generation: number; number: number | null }
  /** Every move of every alias; never changed. */
  alias_moves: {
    model_id: string
    alias: string
    generation: number
    number: number | null
    time_micros: number
    actor: string
    reason: string
    request_id: string
  }
  /** Uploads that are complete, so that a caller who missed the answer can ask again. */
  uploads: { upload_id: string; digest: string; size_bytes: number; time_micros: number }
  /** Every change in order: what Watch streams, what goes to the bus, and who did it when. */
  changes: { revision: number; time_micros: number; actor: string; model_id: string; message: Uint8Array }
  /** How far a reader of `changes` has come. */
  cursors: { name: string; revision: number }
}

async function run(transaction: Transaction<unknown>, ...statements: readonly RawBuilder<unknown>[]): Promise<void> {
  for (const statement of statements) await statement.execute(transaction)
}

/** The registry's migrations, for any engine that Kysely speaks to; add to the end only. */
export const migrations: readonly Migration[] = [
  {
    number: 1,
    name: 'models, versions, aliases, changes',
    up: async (transaction) => {
      await run(
        transaction,
        sql`CREATE TABLE models (id TEXT PRIMARY KEY, message BLOB NOT NULL, revision BIGINT NOT NULL, latest_version BIGINT NOT NULL)`,
        sql`CREATE TABLE versions (
          model_id TEXT NOT NULL REFERENCES models (id), number BIGINT NOT NULL, digest TEXT NOT NULL,
          request_id TEXT NOT NULL, request_digest TEXT NOT NULL, message BLOB NOT NULL,
          reference_distributions BLOB NOT NULL, gate_state INTEGER NOT NULL, gate_report BLOB,
          PRIMARY KEY (model_id, number), UNIQUE (model_id, request_id))`,
        sql`CREATE INDEX versions_by_digest ON versions (digest)`,
        sql`CREATE TABLE gate_reports (revision BIGINT PRIMARY KEY, model_id TEXT NOT NULL, number BIGINT NOT NULL,
          message BLOB NOT NULL, FOREIGN KEY (model_id, number) REFERENCES versions (model_id, number))`,
        sql`CREATE TABLE aliases (model_id TEXT NOT NULL REFERENCES models (id), alias TEXT NOT NULL,
          generation BIGINT NOT NULL, number BIGINT, PRIMARY KEY (model_id, alias),
          FOREIGN KEY (model_id, number) REFERENCES versions (model_id, number))`,
        sql`CREATE INDEX aliases_by_version ON aliases (model_id, number)`,
        sql`CREATE TABLE alias_moves (model_id TEXT NOT NULL, alias TEXT NOT NULL, generation BIGINT NOT NULL,
          number BIGINT, time_micros BIGINT NOT NULL, actor TEXT NOT NULL, reason TEXT NOT NULL,
          PRIMARY KEY (model_id, alias, generation),
          FOREIGN KEY (model_id, number) REFERENCES versions (model_id, number))`,
        sql`CREATE TABLE uploads (upload_id TEXT PRIMARY KEY, digest TEXT NOT NULL, size_bytes BIGINT NOT NULL,
          time_micros BIGINT NOT NULL)`,
        sql`CREATE TABLE changes (revision BIGINT PRIMARY KEY, time_micros BIGINT NOT NULL, actor TEXT NOT NULL,
          model_id TEXT NOT NULL, message BLOB NOT NULL)`,
        sql`CREATE TABLE cursors (name TEXT PRIMARY KEY, revision BIGINT NOT NULL)`,
      )
    },
  },
  {
    number: 2,
    name: 'request ids of models and moves',
    up: async (transaction) => {
      await run(
        transaction,
        sql`ALTER TABLE models ADD COLUMN request_id TEXT NOT NULL DEFAULT ''`,
        sql`ALTER TABLE alias_moves ADD COLUMN request_id TEXT NOT NULL DEFAULT ''`,
        sql`CREATE INDEX alias_moves_by_request ON alias_moves (model_id, alias, request_id)`,
      )
    },
  },
  {
    number: 3,
    name: 'serving profiles',
    up: async (transaction) => {
      await run(transaction, sql`ALTER TABLE versions ADD COLUMN serving_profile BLOB`)
    },
  },
]
