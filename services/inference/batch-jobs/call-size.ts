/**
 * How many rows a job asks about at once. Large calls are cheap, but callers who wait stand behind one: a call is to
 * take some tens of milliseconds at most, so that a slow model or a busy server gets smaller ones.
 */

const TARGET_MS = 25
const MIN_ROWS = 16
const FIRST_ROWS = 256
/** What a row was seen to take at least counts as so much more with each answer, so that a server that became slower is noticed. */
const FORGETTING = 1.05

/** Learns from the answers how many rows the next call should have. */
export class CallSize {
  #rows = FIRST_ROWS
  #msPerRow = Number.POSITIVE_INFINITY

  /** Rows of the next call. */
  get rows(): number {
    return this.#rows
  }

  /**
   * A call of so many rows was answered and took so long: while several are on their way the time since the answer before it.
   * The quickest of late counts, because a call that others held up says nothing of its size.
   */
  observe(rows: number, tookMs: number): void {
    this.#msPerRow = Math.min(this.#msPerRow * FORGETTING, tookMs / rows)
    const wanted = TARGET_MS / this.#msPerRow
    this.#rows = Math.floor(Math.max(MIN_ROWS, Math.min(wanted, 2 * this.#rows)))
  }
}
