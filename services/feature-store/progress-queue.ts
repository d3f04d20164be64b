/** Turns calls into an async sequence; only the newest item waits for a slow reader. */
export function createProgressQueue<T>(): { push(item: T): void; end(): void; items(): AsyncGenerator<T> } {
  let newest: T | undefined
  let ended = false
  let wake = () => {}
  return {
    push(item) {
      newest = item
      wake()
    },
    end() {
      ended = true
      wake()
    },
    async *items() {
      for (;;) {
        if (newest !== undefined) {
          const item = newest
          newest = undefined
          yield item
        } else if (ended) return
        else {
          const { promise, resolve } = Promise.withResolvers<void>()
          wake = resolve
          await promise
        }
      }
    },
  }
}
