/**
 * The journal: every row that was accepted, in the order of its revision, until it stands in a Parquet part.
 *
 * 1. A row is appended in the transaction that makes it readable online, so an acknowledged row is in both or in none.
 * 2. Revisions count the accepted rows of the whole store from 1 and are never given twice.
 * 3. A part replaces the journal's rows up to its last revision in one transaction: a training set that reads the parts
 *    and the journal sees each row once, whenever the process dies.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { inTransaction } from './online-store/row-tables.ts'

/** A row as the journal has it. */
export interface JournalRow {
  readonly key: Uint8Array
  readonly eventMicros: bigint
  readonly createdMicros: bigint
  readonly sequence: bigint
  readonly deleted: boolean
  readonly payload: Uint8Array
}

/** An immutable Parquet file with a view's rows. */
export interface Part {
  readonly tableId: number
  readonly firstRevision: bigint
  readonly lastRevision: bigint
  /** Name of the file inside the folder of the parts. */
  readonly path: string
  readonly rowCount: number
}

/** What waits to become a part. */
export interface Pending {
  readonly tableId: number
  readonly firstRevision: bigint
  readonly lastRevision: bigint
  readonly rowCount: number
  readonly sizeBytes: number
}

/** The journal of a row store. */
export class Journal {
  readonly #database: DatabaseSync
  readonly #append: StatementSync
  readonly #advance: StatementSync
  readonly #revision: StatementSync

  constructor(database: DatabaseSync) {
    this.#database = database
    this.#append = database.prepare('insert into journal values (?, ?, ?, ?)')
    this.#advance = database.prepare(`update counters set value = ? where name = 'revision'`)
    this.#revision = database.prepare(`select value from counters where name = 'revision'`)
  }

  /** The revision of the newest row. */
  revision(): bigint {
    return this.#revision.get()?.value as bigint
  }

  /** Adds rows of one view inside the transaction that is open; `firstRevision` follows `revision()`. */
  append(tableId: number, firstRevision: bigint, rows: readonly JournalRow[]): void {
    const lastRevision = firstRevision + BigInt(rows.length) - 1n
    this.#append.run(tableId, firstRevision, lastRevision, encodeRows(rows))
    this.#advance.run(lastRevision)
  }

  /** What waits, by view. */
  pending(): Pending[] {
    const rows = this.#database
      .prepare(
        `select table_id, min(first_revision) as first, max(last_revision) as last,
          sum(last_revision - first_revision + 1) as count, sum(length(rows)) as size from journal group by table_id`,
      )
      .all()
    return rows.map((row) => ({
      tableId: Number(row.table_id),
      firstRevision: row.first as bigint,
      lastRevision: row.last as bigint,
      rowCount: Number(row.count),
      sizeBytes: Number(row.size),
    }))
  }

  /** Whether rows of a view up to a revision wait. */
  isPending(tableId: number, lastRevision: bigint): boolean {
    return (
      this.#database
        .prepare('select 1 from journal where table_id = ? and last_revision <= ? limit 1')
        .get(tableId, lastRevision) !== undefined
    )
  }

  /** The parts of a view, in order. */
  parts(tableId: number): Part[] {
    const rows = this.#database.prepare('select * from parts where table_id = ? order by first_revision').all(tableId)
    return rows.map((row) => ({
      tableId,
      firstRevision: row.first_revision as bigint,
      lastRevision: row.last_revision as bigint,
      path: String(row.path),
      rowCount: Number(row.row_count),
    }))
  }

  /** Names of all files that are parts. */
  partPaths(): Set<string> {
    return new Set(
      this.#database
        .prepare('select path from parts')
        .all()
        .map((row) => String(row.path)),
    )
  }

  /** Puts a part in the place of the journal's rows that it holds. */
  replace(part: Part): void {
    inTransaction(this.#database, () => {
      this.#database
        .prepare('insert into parts values (?, ?, ?, ?, ?)')
        .run(part.tableId, part.firstRevision, part.lastRevision, part.path, part.rowCount)
      this.#database
        .prepare('delete from journal where table_id = ? and last_revision <= ?')
        .run(part.tableId, part.lastRevision)
    })
  }

  /** Removes everything of a view; returns the files that are parts no longer. */
  drop(tableId: number): string[] {
    const paths = this.parts(tableId).map((part) => part.path)
    inTransaction(this.#database, () => {
      this.#database.prepare('delete from journal where table_id = ?').run(tableId)
      this.#database.prepare('delete from parts where table_id = ?').run(tableId)
    })
    return paths
  }
}

const fixedBytes = 8 + 8 + 8 + 1 + 4 + 4

/** Packs rows for the journal. */
export function encodeRows(rows: readonly JournalRow[]): Uint8Array {
  let size = 0
  for (const row of rows) size += fixedBytes + row.key.length + row.payload.length
  const bytes = Buffer.allocUnsafe(size)
  let at = 0
  for (const row of rows) {
    at = bytes.writeBigInt64LE(row.eventMicros, at)
    at = bytes.writeBigInt64LE(row.createdMicros, at)
    at = bytes.writeBigInt64LE(row.sequence, at)
    at = bytes.writeUInt8(row.deleted ? 1 : 0, at)
    at = bytes.writeUInt32LE(row.key.length, at)
    at = bytes.writeUInt32LE(row.payload.length, at)
    bytes.set(row.key, at)
    at += row.key.length
    bytes.set(row.payload, at)
    at += row.payload.length
  }
  return bytes
}

/** Reads rows that `encodeRows` packed. */
export function* decodeRows(encoded: Uint8Array): Generator<JournalRow> {
  const bytes = Buffer.from(encoded.buffer, encoded.byteOffset, encoded.byteLength)
  for (let at = 0; at < bytes.length; ) {
    const keyStart = at + fixedBytes
    const payloadStart = keyStart + bytes.readUInt32LE(at + 25)
    const end = payloadStart + bytes.readUInt32LE(at + 29)
    yield {
      eventMicros: bytes.readBigInt64LE(at),
      createdMicros: bytes.readBigInt64LE(at + 8),
      sequence: bytes.readBigInt64LE(at + 16),
      deleted: bytes[at + 24] === 1,
      key: bytes.subarray(keyStart, payloadStart),
      payload: bytes.subarray(payloadStart, end),
    }
    at = end
  }
}
