import type { Migration } from '@slipway/storage'
import { sql } from 'kysely'

/** What one server knows of asynchronous predictions. Times are epoch milliseconds. */
export interface Schema {
  /** Requests and, once there is one, the result that counts: the bytes of `AsyncPredictionAnswered`. */
  predictions: { request_id: string; seen_ms: number; request_time_ms: number; result: Uint8Array | null }
  /** Results that this server posts. */
  deliveries: {
    request_id: string
    url: string
    result: Uint8Array
    attempts: number
    due_ms: number
    /** `due`, `delivered` or `given-up`. */
    state: string
    ended_ms: number | null
    last_error: string
  }
}

/** The migrations of asynchronous predictions; add to the end only. */
export const migrations: readonly Migration[] = [
  {
    number: 1,
    name: 'predictions and deliveries',
    up: async (transaction) => {
      for (const statement of [
        sql`CREATE TABLE predictions (request_id TEXT PRIMARY KEY, seen_ms BIGINT NOT NULL, request_time_ms BIGINT NOT NULL, result BLOB)`,
        sql`CREATE INDEX predictions_by_age ON predictions (seen_ms)`,
        sql`CREATE TABLE deliveries (request_id TEXT PRIMARY KEY, url TEXT NOT NULL, result BLOB NOT NULL, attempts INTEGER NOT NULL,
          due_ms BIGINT NOT NULL, state TEXT NOT NULL, ended_ms BIGINT, last_error TEXT NOT NULL)`,
        sql`CREATE INDEX deliveries_by_due ON deliveries (state, due_ms)`,
      ])
        await statement.execute(transaction)
    },
  },
]
