/**
 * The embedded online store: SQLite, in the file that also has the journal.
 *
 * One writer, this process; a write is one transaction over the online rows and the journal. Rows of an entity lie side
 * by side in the order of the rule, so the row that holds at T is the first one found going back from T.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { Code, Failure } from '@slipway/rpc'
import type { Journal, JournalRow } from '../journal.ts'
import type { CheckedRow } from '../row-check.ts'
import { compareRows, type Visibility } from '../rule.ts'
import type { OnlineStore, RowKey, StoredRow, WriteOutcome } from './online-store.ts'
import { inTransaction } from './row-tables.ts'

const forever = 2n ** 63n - 1n
const never = -(2n ** 63n)
/** Entities looked at between two turns of the event loop while forgetting. */
const forgetSlice = 500

interface Row extends StoredRow {
  readonly order: readonly [bigint, bigint, bigint]
}

/** Keeps online rows in SQLite. */
export class SqliteOnlineStore implements OnlineStore {
  readonly #database: DatabaseSync
  readonly #journal: Journal
  readonly #find: StatementSync
  readonly #insert: StatementSync
  readonly #newest: StatementSync
  readonly #state: StatementSync

  constructor(options: { readonly database: DatabaseSync; readonly journal: Journal }) {
    const { database } = options
    this.#database = database
    this.#journal = options.journal
    const order = 'order by event desc, created desc, sequence desc limit 1'
    this.#find = database.prepare(
      `select event, created, sequence, deleted, payload from online_rows
       where table_id = ? and key = ? and event <= ? and created <= ? ${order}`,
    )
    this.#insert = database.prepare('insert into online_rows values (?, ?, ?, ?, ?, ?, ?)')
    this.#newest = database.prepare(
      `insert into tables values (?, ?, ${never}) on conflict do update set newest_event = max(newest_event, excluded.newest_event)`,
    )
    this.#state = database.prepare('select newest_event, forgotten_before from tables where table_id = ?')
  }

  async write(tableId: number, rows: readonly CheckedRow[], nowMicros: bigint): Promise<readonly WriteOutcome[]> {
    return inTransaction(this.#database, () => this.#write(tableId, rows, nowMicros))
  }

  async read(keys: readonly RowKey[], timeMicros: bigint, visibility: Visibility) {
    const tables = new Set(keys.map(({ tableId }) => tableId))
    for (const tableId of tables) this.#refuseForgotten(tableId, timeMicros)
    const createdUpTo = visibility === 'known' ? timeMicros : forever
    return keys.map(({ tableId, key }) => this.#rowAt(tableId, key, timeMicros, createdUpTo))
  }

  async newestEvent(tableId: number): Promise<bigint | undefined> {
    return this.#state.get(tableId)?.newest_event as bigint | undefined
  }

  async forget(tableId: number, beforeMicros: bigint): Promise<number> {
    this.#database
      .prepare('update tables set forgotten_before = max(forgotten_before, ?) where table_id = ?')
      .run(beforeMicros, tableId)
    const nextKey = this.#database.prepare(
      'select key from online_rows where table_id = ? and key > ? order by key limit 1',
    )
    const forgetRows = this.#database.prepare(
      `delete from online_rows where table_id = ? and key = ? and (event, created, sequence) < (?, ?, ?)`,
    )
    let forgotten = 0n
    for (let key: Uint8Array | undefined = new Uint8Array(); key !== undefined; ) {
      key = inTransaction(this.#database, () => {
        let last: Uint8Array | undefined = key
        for (let count = 0; count < forgetSlice && last !== undefined; count += 1) {
          last = nextKey.get(tableId, last)?.key as Uint8Array | undefined
          if (last === undefined) break
          const holds = this.#rowAt(tableId, last, beforeMicros, beforeMicros)
          if (holds !== undefined) forgotten += BigInt(forgetRows.run(tableId, last, ...holds.order).changes)
        }
        return last
      })
      await nextTurn()
    }
    return Number(forgotten)
  }

  async drop(tableId: number): Promise<void> {
    inTransaction(this.#database, () => {
      this.#database.prepare('delete from online_rows where table_id = ?').run(tableId)
      this.#database.prepare('delete from tables where table_id = ?').run(tableId)
    })
  }

  #write(tableId: number, rows: readonly CheckedRow[], nowMicros: bigint): WriteOutcome[] {
    const firstRevision = this.#journal.revision() + 1n
    const accepted: JournalRow[] = []
    let newest = never
    const outcomes = rows.map((row) => {
      const revision = firstRevision + BigInt(accepted.length)
      const before = this.#rowAt(tableId, row.key, forever, forever)
      const again = before === undefined || before.eventMicros < row.eventMicros ? undefined : this.#again(tableId, row)
      if (again !== undefined) return again
      const kept = { ...row, createdMicros: row.createdMicros ?? nowMicros, sequence: row.sequence ?? revision }
      this.#insert.run(
        tableId,
        kept.key,
        kept.eventMicros,
        kept.createdMicros,
        kept.sequence,
        kept.deleted ? 1 : 0,
        kept.payload,
      )
      accepted.push(kept)
      if (kept.eventMicros > newest) newest = kept.eventMicros
      return before === undefined || compareRows(kept, before) > 0 ? 'applied' : 'stale'
    })
    if (accepted.length > 0) {
      this.#journal.append(tableId, firstRevision, accepted)
      this.#newest.run(tableId, newest)
    }
    return outcomes
  }

  /** Whether a row has come before, or stands in the place of another one. */
  #again(tableId: number, row: CheckedRow): 'duplicate' | 'conflict' | undefined {
    const { createdMicros, sequence } = row
    const same = this.#newestLike(tableId, row)
    if (same === undefined) return undefined
    if (same.deleted === row.deleted && Buffer.compare(same.payload, row.payload) === 0) return 'duplicate'
    return createdMicros !== undefined && sequence !== undefined ? 'conflict' : undefined
  }

  /** The newest row with the event time of `row`, and with its created time and sequence where it has them. */
  #newestLike(tableId: number, row: CheckedRow): Row | undefined {
    const { key, eventMicros, createdMicros, sequence } = row
    const conditions = ['table_id = ?', 'key = ?', 'event = ?']
    const parameters: (number | bigint | Uint8Array)[] = [tableId, key, eventMicros]
    if (createdMicros !== undefined) {
      conditions.push('created = ?')
      parameters.push(createdMicros)
    }
    if (sequence !== undefined) {
      conditions.push('sequence = ?')
      parameters.push(sequence)
    }
    const found = this.#like(conditions.join(' and ')).get(...parameters)
    return found && storedRow(found)
  }

  readonly #likeStatements = new Map<string, StatementSync>()

  #like(condition: string): StatementSync {
    const known = this.#likeStatements.get(condition)
    if (known !== undefined) return known
    const statement = this.#database.prepare(
      `select event, created, sequence, deleted, payload from online_rows where ${condition}
       order by created desc, sequence desc limit 1`,
    )
    this.#likeStatements.set(condition, statement)
    return statement
  }

  #rowAt(tableId: number, key: Uint8Array, eventUpTo: bigint, createdUpTo: bigint): Row | undefined {
    const found = this.#find.get(tableId, key, eventUpTo, createdUpTo)
    return found && storedRow(found)
  }

  #refuseForgotten(tableId: number, timeMicros: bigint): void {
    const forgottenBefore = this.#state.get(tableId)?.forgotten_before as bigint | undefined
    if (forgottenBefore === undefined || timeMicros >= forgottenBefore) return
    throw new Failure(
      Code.OUT_OF_RANGE,
      'TIME_FORGOTTEN',
      `the online store remembers this view from ${forgottenBefore} microseconds since the epoch on: ask for a training set`,
      { metadata: { rememberedFromMicros: String(forgottenBefore) } },
    )
  }
}

function storedRow(found: Record<string, unknown>): Row {
  const eventMicros = found.event as bigint
  const createdMicros = found.created as bigint
  const sequence = found.sequence as bigint
  return {
    eventMicros,
    createdMicros,
    sequence,
    deleted: found.deleted === 1n,
    payload: found.payload as Uint8Array,
    order: [eventMicros, createdMicros, sequence],
  }
}
