/**
 * The threads that models may keep busy at once, whatever the number of models. An executor takes its share before it
 * runs a batch and gives it back when it falls idle; who found none is called when there is some, first come, first served.
 */
export class ThreadBudget {
  readonly total: number
  #free: number
  readonly #waiting = new Set<() => void>()

  constructor(total: number) {
    this.total = total
    this.#free = total
  }

  /** Takes so many threads (all of them when that is more than there are); false when they are not free, and then `whenFree` is called later. */
  take(threads: number, whenFree: () => void): boolean {
    const share = Math.min(threads, this.total)
    if (share > this.#free) {
      this.#waiting.add(whenFree)
      return false
    }
    this.#free -= share
    return true
  }

  /** Gives threads back. */
  give(threads: number): void {
    this.#free += Math.min(threads, this.total)
    const [first] = this.#waiting
    if (first === undefined) return
    this.#waiting.delete(first)
    first()
  }
}
