import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

const schemaVersion = 1
const busyTimeoutMs = 10_000

/**
 * A record's `position` is its partition's id times `positionsPerPartition` plus its offset: one integer key, one
 * range per partition, below 2^53.
 */
export const positionsPerPartition = 2 ** 36

const schema = `
  CREATE TABLE topics (
    topic_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    retention_ms INTEGER NOT NULL,
    retention_bytes INTEGER NOT NULL
  );
  CREATE TABLE partitions (
    partition_id INTEGER PRIMARY KEY,
    topic_id INTEGER NOT NULL REFERENCES topics,
    number INTEGER NOT NULL,
    next_offset INTEGER NOT NULL DEFAULT 0,
    last_time_micros INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic_id, number)
  );
  CREATE TABLE records (
    position INTEGER PRIMARY KEY,
    time_micros INTEGER NOT NULL,
    key TEXT NOT NULL,
    headers TEXT NOT NULL,
    value BLOB NOT NULL
  );
  CREATE TABLE positions (
    group_name TEXT NOT NULL,
    partition_id INTEGER NOT NULL REFERENCES partitions,
    next_offset INTEGER NOT NULL,
    PRIMARY KEY (group_name, partition_id)
  ) WITHOUT ROWID;
  CREATE TABLE members (
    group_name TEXT NOT NULL,
    member TEXT NOT NULL,
    partition_id INTEGER NOT NULL REFERENCES partitions,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (group_name, member, partition_id)
  ) WITHOUT ROWID;
  CREATE TABLE leases (
    group_name TEXT NOT NULL,
    partition_id INTEGER NOT NULL REFERENCES partitions,
    member TEXT NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (group_name, partition_id)
  ) WITHOUT ROWID;
`

/** Opens the file of an embedded bus, making it when it is missing; several processes may do so at once. */
export function openEventFile(path: string): DatabaseSync {
  mkdirSync(dirname(path), { recursive: true })
  const database = new DatabaseSync(path, { timeout: busyTimeoutMs, enableForeignKeyConstraints: false })
  becomeWal(database)
  database.exec('PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; BEGIN IMMEDIATE')
  const version = database.prepare('PRAGMA user_version').get()?.user_version
  if (version === 0) database.exec(`${schema}; PRAGMA user_version = ${schemaVersion}`)
  database.exec('COMMIT')
  if (version !== 0 && version !== schemaVersion) {
    database.close()
    throw new Error(`${path} has schema version ${version}, this code knows ${schemaVersion}`)
  }
  return database
}

/** SQLite does not wait for the lock that the change to WAL needs when two processes make it at once. */
function becomeWal(database: DatabaseSync): void {
  const sleeper = new Int32Array(new SharedArrayBuffer(4))
  const deadlineMs = Date.now() + busyTimeoutMs
  for (;;) {
    try {
      database.exec('PRAGMA journal_mode = WAL')
      return
    } catch (error) {
      if (Date.now() > deadlineMs) throw error
      Atomics.wait(sleeper, 0, 0, 5)
    }
  }
}
