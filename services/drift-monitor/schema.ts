import type { Migration } from '@slipway/storage'
import { sql } from 'kysely'

/** The monitor's tables. Hours are hours since the epoch of event time, micros are microseconds since the epoch. */
export interface Schema {
  /** `message` is a Monitor without etag, which is the revision. Counters grow for as long as the monitor lives. */
  monitors: {
    monitor: string
    endpoint: string
    revision: number
    message: Uint8Array
    last_look_hour: number | null
    predictions: number
    too_late: number
    labels_received: number
    labels_joined: number
    /** Batches with rows of this endpoint. */
    batches: number
  }
  /** What the registry said about a digest: a ModelVersion, or an empty one and why there is none. */
  baselines: { digest: string; message: Uint8Array; problem: string }
  /** The versions that answered for an endpoint. `label_revision` grows with every change of a joined label. */
  versions: { monitor: string; digest: string; model_version: string; predictions: number; label_revision: number }
  /** Additive counts; `counts` are little-endian 32-bit integers, one a cell of the version. */
  panes: { monitor: string; digest: string; hour: number; sampling_rate: number; rows: number; counts: Uint8Array }
  /** Rows by partition of the bus: from them follows how far an endpoint has been counted. */
  arrivals: { monitor: string; partition: number; hour: number; rows: number; batch: number }
  /** Amendments of windows that had been looked at. */
  amendments: { monitor: string; end_hour: number; revision: number }
  /** Every counted prediction within retention: counts it once, and joins it with its label. */
  predictions: {
    prediction_id: string
    monitor: string
    digest: string
    event_micros: number
    score: number | null
    label: number | null
  }
  /** Every label within retention, also those whose prediction has not come yet. */
  labels: {
    prediction_id: string
    feedback_id: string
    monitor: string
    label: number
    time_micros: number
  }
  /** `number` counts all incidents, `open` is 1 until they are resolved. */
  incidents: {
    name: string
    monitor: string
    digest: string
    number: number
    open: number
    calm_since_hour: number | null
    message: Uint8Array
  }
  /** Events that the bus has not acknowledged. */
  outbox: { number: number; topic: string; key: string; value: Uint8Array; headers: string }
}

/** The monitor's migrations; add to the end only. */
export const migrations: readonly Migration[] = [
  {
    number: 1,
    name: 'monitors, counts, labels, incidents',
    up: async (transaction) => {
      const statements = [
        sql`CREATE TABLE monitors (monitor TEXT PRIMARY KEY, endpoint TEXT NOT NULL UNIQUE, revision BIGINT NOT NULL,
          message BLOB NOT NULL, last_look_hour BIGINT, predictions BIGINT NOT NULL DEFAULT 0,
          too_late BIGINT NOT NULL DEFAULT 0, labels_received BIGINT NOT NULL DEFAULT 0,
          labels_joined BIGINT NOT NULL DEFAULT 0)`,
        sql`CREATE TABLE baselines (digest TEXT PRIMARY KEY, message BLOB NOT NULL, problem TEXT NOT NULL)`,
        sql`CREATE TABLE versions (monitor TEXT NOT NULL REFERENCES monitors (monitor) ON DELETE CASCADE,
          digest TEXT NOT NULL, model_version TEXT NOT NULL, predictions BIGINT NOT NULL DEFAULT 0,
          label_revision BIGINT NOT NULL DEFAULT 0, PRIMARY KEY (monitor, digest))`,
        sql`CREATE TABLE panes (monitor TEXT NOT NULL REFERENCES monitors (monitor) ON DELETE CASCADE,
          digest TEXT NOT NULL, hour BIGINT NOT NULL, sampling_rate DOUBLE PRECISION NOT NULL, rows BIGINT NOT NULL,
          counts BLOB NOT NULL, PRIMARY KEY (monitor, digest, hour, sampling_rate))`,
        sql`CREATE TABLE arrivals (monitor TEXT NOT NULL REFERENCES monitors (monitor) ON DELETE CASCADE,
          partition BIGINT NOT NULL, hour BIGINT NOT NULL, rows BIGINT NOT NULL, PRIMARY KEY (monitor, partition, hour))`,
        sql`CREATE TABLE amendments (monitor TEXT NOT NULL REFERENCES monitors (monitor) ON DELETE CASCADE,
          end_hour BIGINT NOT NULL, revision BIGINT NOT NULL, PRIMARY KEY (monitor, end_hour))`,
        sql`CREATE TABLE predictions (prediction_id TEXT PRIMARY KEY,
          monitor TEXT NOT NULL REFERENCES monitors (monitor) ON DELETE CASCADE, digest TEXT NOT NULL,
          event_micros BIGINT NOT NULL, score DOUBLE PRECISION, label DOUBLE PRECISION)`,
        sql`CREATE INDEX predictions_by_version ON predictions (monitor, digest, event_micros)`,
        sql`CREATE TABLE labels (prediction_id TEXT NOT NULL, feedback_id TEXT NOT NULL,
          monitor TEXT NOT NULL REFERENCES monitors (monitor) ON DELETE CASCADE, label DOUBLE PRECISION NOT NULL,
          time_micros BIGINT NOT NULL, PRIMARY KEY (prediction_id, feedback_id))`,
        sql`CREATE INDEX labels_by_time ON labels (monitor, time_micros)`,
        sql`CREATE TABLE incidents (name TEXT PRIMARY KEY,
          monitor TEXT NOT NULL REFERENCES monitors (monitor) ON DELETE CASCADE, digest TEXT NOT NULL,
          number BIGINT NOT NULL, open INTEGER NOT NULL, calm_since_hour BIGINT, message BLOB NOT NULL)`,
        sql`CREATE UNIQUE INDEX incidents_by_number ON incidents (number)`,
        sql`CREATE INDEX incidents_by_monitor ON incidents (monitor, number)`,
        sql`CREATE TABLE outbox (number INTEGER PRIMARY KEY, topic TEXT NOT NULL, key TEXT NOT NULL,
          value BLOB NOT NULL, headers TEXT NOT NULL)`,
      ]
      for (const statement of statements) await statement.execute(transaction)
    },
  },
  {
    number: 2,
    name: 'batches, to tell a partition that lags from one that is silent',
    up: async (transaction) => {
      await sql`ALTER TABLE monitors ADD COLUMN batches BIGINT NOT NULL DEFAULT 0`.execute(transaction)
      await sql`ALTER TABLE arrivals ADD COLUMN batch BIGINT NOT NULL DEFAULT 0`.execute(transaction)
    },
  },
]
