/**
 * The records and topics of an embedded bus, in SQL. Runs in the bus's worker thread; every function is synchronous and
 * called inside a transaction that the worker begins and commits.
 *
 * 1. Offsets of a partition count from 0 without a gap; retention deletes from the front only.
 * 2. `time_micros` never decreases along a partition, so the first record of a time is found by halving.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { defaultTopic, type StartPosition, type TopicSettings } from './bus.ts'
import { positionsPerPartition } from './embedded-schema.ts'

/** One partition of a topic, by the id that it has in the file. */
export interface Partition {
  readonly id: number
  readonly topic: string
  readonly number: number
}

/** A record as the file keeps it. */
export interface StoredRecord {
  readonly topic: string
  readonly key: string
  /** One JSON object. */
  readonly headers: string
  readonly value: Uint8Array
}

/** A record that was read back. */
export interface LoggedRecord extends StoredRecord {
  readonly offset: number
  readonly timeMicros: number
}

/** Reads and writes records. */
export interface EventLog {
  /** The partitions of a topic, which is made when there is none. */
  partitionsOf(topic: string): readonly Partition[]
  /** Writes records behind those that are there, all at the same time. */
  append(records: readonly StoredRecord[], nowMicros: number): void
  /** Records from an offset on, at most so many and, beyond the first, so many bytes. */
  read(partition: Partition, fromOffset: number, maxRecords: number, maxBytes: number): LoggedRecord[]
  /** Offset that the next record will get. */
  endOf(partition: Partition): number
  /** Offset of the first record that a start position means. */
  startOf(partition: Partition, from: StartPosition): number
  /** Deletes up to `maxRecords` records that no retention bound keeps; returns how many. */
  prune(nowMicros: number, maxRecords: number): number
  /** Offset behind the last record of every partition, by partition id. */
  tails(): Map<number, number>
  /** Drops what is remembered of topics, after a transaction that may have made some was rolled back. */
  forget(): void
}

/** Binds the log to an open file; topics that are made are set up as `settings` say. */
export function createEventLog(database: DatabaseSync, settings: ReadonlyMap<string, TopicSettings>): EventLog {
  const statements = prepare(database)
  const known = new Map<string, readonly Partition[]>()

  function partitionsOf(topic: string): readonly Partition[] {
    const found = known.get(topic) ?? load(topic)
    if (found.length > 0) {
      known.set(topic, found)
      return found
    }
    const { partitions, retentionMs, retentionBytes } = settings.get(topic) ?? defaultTopic(topic)
    const { lastInsertRowid } = statements.addTopic.run(topic, retentionMs, retentionBytes)
    for (let number = 0; number < partitions; number += 1) statements.addPartition.run(lastInsertRowid, number)
    return load(topic)
  }

  function load(topic: string): readonly Partition[] {
    const rows = statements.partitions.all(topic)
    return rows.map((row) => ({ id: Number(row.partition_id), topic, number: Number(row.number) }))
  }

  function append(records: readonly StoredRecord[], nowMicros: number): void {
    const tails = new Map<number, { next: number; timeMicros: number; bytes: number }>()
    for (const record of records) {
      const partitions = partitionsOf(record.topic)
      const partition = partitions[hashKey(record.key) % partitions.length] as Partition
      let tail = tails.get(partition.id)
      if (tail === undefined) {
        const row = statements.tail.get(partition.id)
        const timeMicros = Math.max(nowMicros, Number(row?.last_time_micros))
        tail = { next: Number(row?.next_offset), timeMicros, bytes: 0 }
        tails.set(partition.id, tail)
      }
      const position = partition.id * positionsPerPartition + tail.next
      statements.insert.run(position, tail.timeMicros, record.key, record.headers, record.value)
      tail.next += 1
      tail.bytes += storedBytes(record)
    }
    for (const [id, tail] of tails) statements.setTail.run(tail.next, tail.timeMicros, tail.bytes, id)
  }

  function read(partition: Partition, fromOffset: number, maxRecords: number, maxBytes: number): LoggedRecord[] {
    const first = partition.id * positionsPerPartition
    const records: LoggedRecord[] = []
    let bytes = 0
    for (const row of statements.read.iterate(first + fromOffset, first + positionsPerPartition, maxRecords)) {
      const record = loggedOf(partition, row)
      bytes += storedBytes(record)
      if (records.length > 0 && bytes > maxBytes) break
      records.push(record)
    }
    return records
  }

  const endOf = (partition: Partition): number => Number(statements.tail.get(partition.id)?.next_offset)

  function startOf(partition: Partition, from: StartPosition): number {
    const end = endOf(partition)
    if (from === 'latest') return end
    const base = partition.id * positionsPerPartition
    const first = statements.first.get(base, base + positionsPerPartition)?.position
    if (first === undefined || first === null) return end
    let low = Number(first) - base
    if (from === 'earliest') return low
    let high = end
    while (low < high) {
      const middle = Math.floor((low + high) / 2)
      const time = Number(statements.time.get(base + middle)?.time_micros)
      if (BigInt(time) >= from.timeMicros) high = middle
      else low = middle + 1
    }
    return low
  }

  function prune(nowMicros: number, maxRecords: number): number {
    let pruned = 0
    for (const row of statements.retention.all()) {
      if (pruned >= maxRecords) break
      const base = Number(row.partition_id) * positionsPerPartition
      const oldestMicros = nowMicros - Number(row.retention_ms) * 1000
      let excess = Number(row.bytes) - Number(row.retention_bytes)
      let freed = 0
      let last = -1
      for (const record of statements.sizes.iterate(base, base + positionsPerPartition, maxRecords - pruned)) {
        if (Number(record.time_micros) >= oldestMicros && excess <= 0) break
        const bytes = Number(record.bytes)
        excess -= bytes
        freed += bytes
        last = Number(record.position)
        pruned += 1
      }
      if (last < 0) continue
      statements.remove.run(base, last)
      statements.shrink.run(freed, Number(row.partition_id))
    }
    return pruned
  }

  const tails = (): Map<number, number> =>
    new Map(statements.tails.all().map((row) => [Number(row.partition_id), Number(row.next_offset)]))

  return { partitionsOf, append, read, endOf, startOf, prune, tails, forget: () => known.clear() }
}

function prepare(database: DatabaseSync) {
  return {
    partitions: database.prepare(
      'SELECT partition_id, number FROM partitions JOIN topics USING (topic_id) WHERE name = ? ORDER BY number',
    ),
    addTopic: database.prepare('INSERT INTO topics (name, retention_ms, retention_bytes) VALUES (?, ?, ?)'),
    addPartition: database.prepare('INSERT INTO partitions (topic_id, number) VALUES (?, ?)'),
    tail: database.prepare('SELECT next_offset, last_time_micros FROM partitions WHERE partition_id = ?'),
    tails: database.prepare('SELECT partition_id, next_offset FROM partitions'),
    setTail: database.prepare(
      'UPDATE partitions SET next_offset = ?, last_time_micros = ?, bytes = bytes + ? WHERE partition_id = ?',
    ),
    insert: database.prepare('INSERT INTO records (position, time_micros, key, headers, value) VALUES (?, ?, ?, ?, ?)'),
    read: database.prepare('SELECT * FROM records WHERE position >= ? AND position < ? ORDER BY position LIMIT ?'),
    first: database.prepare('SELECT min(position) AS position FROM records WHERE position >= ? AND position < ?'),
    time: database.prepare('SELECT time_micros FROM records WHERE position = ?'),
    retention: database.prepare(
      'SELECT partition_id, bytes, retention_ms, retention_bytes FROM partitions JOIN topics USING (topic_id) WHERE bytes > 0',
    ),
    sizes: database.prepare(
      `SELECT position, time_micros, octet_length(key) + octet_length(headers) + octet_length(value) AS bytes
       FROM records WHERE position >= ? AND position < ? ORDER BY position LIMIT ?`,
    ),
    remove: database.prepare('DELETE FROM records WHERE position >= ? AND position <= ?'),
    shrink: database.prepare('UPDATE partitions SET bytes = max(0, bytes - ?) WHERE partition_id = ?'),
  } satisfies Record<string, StatementSync>
}

function loggedOf(partition: Partition, row: Record<string, unknown>): LoggedRecord {
  return {
    topic: partition.topic,
    offset: Number(row.position) - partition.id * positionsPerPartition,
    timeMicros: Number(row.time_micros),
    key: String(row.key),
    headers: String(row.headers),
    value: row.value as Uint8Array,
  }
}

/** The same measure as the statement that prunes. */
function storedBytes(record: StoredRecord): number {
  return Buffer.byteLength(record.key) + Buffer.byteLength(record.headers) + record.value.length
}

/** 32-bit FNV-1a; which partition a key belongs to must never change. */
function hashKey(key: string): number {
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(key)) hash = Math.imul(hash ^ byte, 0x01000193)
  return hash >>> 0
}
