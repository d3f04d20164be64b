/**
 * The threads that models may keep busy at once, whatever the number of models.
 *
 * 1. No more threads are taken than there are. An executor's share is taken before it runs a batch and given back when it falls idle.
 * 2. First come, first served: who finds none waits in a line, and nobody takes threads past the line. So a version that always
 *    has work gets in line again after each batch, and starves no other.
 * 3. Who is called and takes nothing leaves the line to the next; threads never lie idle while somebody waits whose share they are.
 */
export class ThreadBudget {
  readonly total: number
  #free: number
  /** Who waits, and for how many. */
  readonly #line = new Map<() => void, number>()
  #called: (() => void) | undefined
  #isServing = false

  constructor(total: number) {
    this.total = total
    this.#free = total
  }

  /** Whether somebody waits: whoever has threads should not keep them for a second batch. */
  get isContended(): boolean {
    return this.#line.size > 0
  }

  /** Takes so many threads (all of them when that is more than there are); false when it is not one's turn, and then `whenFree` is called later. */
  take(threads: number, whenFree: () => void): boolean {
    const share = Math.min(threads, this.total)
    if (share <= this.#free && (this.#line.size === 0 || this.#called === whenFree)) {
      this.#called = undefined
      this.#free -= share
      return true
    }
    if (!this.#line.has(whenFree)) this.#line.set(whenFree, share)
    return false
  }

  /** Gives threads back, and calls those whose turn it is. */
  give(threads: number): void {
    this.#free += Math.min(threads, this.total)
    if (this.#isServing) return
    this.#isServing = true
    for (;;) {
      const [first] = this.#line
      if (first === undefined || first[1] > this.#free) break
      const [whenFree] = first
      this.#line.delete(whenFree)
      this.#called = whenFree
      whenFree()
      this.#called = undefined
    }
    this.#isServing = false
  }
}
