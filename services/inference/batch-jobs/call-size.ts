/**
 * How many rows a job asks about at once. Large calls are cheap, but callers who wait stand behind one: a call is to
 * take some tens of milliseconds, so that a slow model or a busy server gets smaller ones.
 */

const TARGET_MS = 25
const MIN_ROWS = 16

/** Rows of the first call. */
export const FIRST_CALL_ROWS = 256

/**
 * Rows of the next call, after one of `rows` rows took so long. While several are on their way that is the time since the
 * answer before it, not since it was sent: what it waited for the others says nothing of its size.
 */
export function nextCallRows(rows: number, tookMs: number, maxRows: number): number {
  const wanted = tookMs > TARGET_MS ? rows / 2 : tookMs < TARGET_MS / 2 ? rows * 2 : rows
  return Math.floor(Math.min(maxRows, Math.max(Math.min(MIN_ROWS, maxRows), wanted)))
}
