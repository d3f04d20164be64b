import type { CheckedRow } from '../row-check.ts'
import type { Row, Visibility } from '../rule.ts'

/** What became of a row that fits its view. */
export type WriteOutcome = 'applied' | 'stale' | 'duplicate' | 'conflict'

/** A row as it is kept. */
export interface StoredRow extends Row {
  readonly payload: Uint8Array
}

/** One entity of one view. */
export interface RowKey {
  readonly tableId: number
  readonly key: Uint8Array
}

/**
 * The port for what is served online. What every adapter promises, and the contract test checks:
 *
 * 1. What `write` acknowledged survives kill -9 and the loss of power, online and in the journal, both or neither.
 * 2. A row is `applied` when it is newer than all rows of its entity by the rule, else `stale`; either way it is kept. Rows
 *    with created times and sequences leave the same state in whatever order and from however many writers they come.
 * 3. A row is a `duplicate`, and changes nothing, when it comes again: with the same times, sequence and values. A created
 *    time or a sequence that is not given counts as the same when the values are those of the newest such row.
 * 4. A row with the times and the sequence of another one, but other values, is a `conflict` and changes nothing.
 * 5. `read` answers each key as the rule says for T, at one moment for all keys. It fails with OUT_OF_RANGE when T lies
 *    before what `forget` was told, rather than answer from what is left.
 * 6. `forget(tableId, T)` removes only rows that no read at T or later can answer.
 * 7. A failed write changes nothing.
 */
export interface OnlineStore {
  /** Writes rows of one view in one transaction; one outcome a row. `nowMicros` is the created time of rows without one. */
  write(tableId: number, rows: readonly CheckedRow[], nowMicros: bigint): Promise<readonly WriteOutcome[]>
  /** The row that holds at T for each key. */
  read(keys: readonly RowKey[], timeMicros: bigint, visibility: Visibility): Promise<readonly (StoredRow | undefined)[]>
  /** The newest event time of a view's rows; undefined when there is none. */
  newestEvent(tableId: number): Promise<bigint | undefined>
  /** Drops what only reads before T need; returns the number of rows. Gives way to other calls now and then. */
  forget(tableId: number, beforeMicros: bigint): Promise<number>
  /** Removes all rows of a view. */
  drop(tableId: number): Promise<void>
}
