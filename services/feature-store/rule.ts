/**
 * The value of a feature at a time T: the one written rule. Online reads, training sets and their tests go back to it.
 *
 * 1. A row is a candidate at T when its event time is at or before T; where only knowledge counts, its created time
 *    must be at or before T as well.
 * 2. Of the candidates the newest wins: by event time, then created time, then sequence.
 * 3. The winner is fresh while T minus its event time is at most the ttl; no ttl, any age is fresh.
 *
 * All times are microseconds since the epoch. Nothing here knows the clock, a store or the wire.
 */

/** What orders the rows of one entity. */
export interface RowOrder {
  readonly eventMicros: bigint
  readonly createdMicros: bigint
  readonly sequence: bigint
}

/** A row of one entity, or the mark that the entity has no values from a time on. */
export interface Row extends RowOrder {
  readonly deleted: boolean
}

/** Which rows count: what was known at T, or all that were true at T. */
export type Visibility = 'known' | 'event'

/** Whether a feature has a value at T, and why not. */
export type Status = 'present' | 'null' | 'not-found' | 'outside-max-age'

/** Less than zero when `a` is older than `b`, zero when they are the same row, else greater. */
export function compareRows(a: RowOrder, b: RowOrder): number {
  if (a.eventMicros !== b.eventMicros) return a.eventMicros < b.eventMicros ? -1 : 1
  if (a.createdMicros !== b.createdMicros) return a.createdMicros < b.createdMicros ? -1 : 1
  if (a.sequence !== b.sequence) return a.sequence < b.sequence ? -1 : 1
  return 0
}

/** Whether a row counts at T. */
export function isCandidate(row: RowOrder, timeMicros: bigint, visibility: Visibility): boolean {
  if (row.eventMicros > timeMicros) return false
  return visibility === 'event' || row.createdMicros <= timeMicros
}

/** The row that holds at T; undefined when there is none. */
export function rowAt<R extends Row>(rows: Iterable<R>, timeMicros: bigint, visibility: Visibility): R | undefined {
  let winner: R | undefined
  for (const row of rows) {
    if (!isCandidate(row, timeMicros, visibility)) continue
    if (winner === undefined || compareRows(row, winner) > 0) winner = row
  }
  return winner
}

/** The status of one feature, given the row that holds at T and whether its value is null. */
export function statusOf(
  winner: Row | undefined,
  isNull: boolean,
  timeMicros: bigint,
  ttlMicros: bigint | undefined,
): Status {
  if (winner === undefined || winner.deleted) return 'not-found'
  if (ttlMicros !== undefined && timeMicros - winner.eventMicros > ttlMicros) return 'outside-max-age'
  return isNull ? 'null' : 'present'
}
