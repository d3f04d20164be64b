/** Takes work one piece after another. */
export interface Turns {
  /**
   * Runs `work` when everything before it has settled. When the signal is aborted while it waits, the promise rejects at
   * once with the signal's reason and the work is never begun; what has begun looks after its signal itself.
   */
  take<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T>
}

/** Makes a queue of one. */
export function createTurns(): Turns {
  let last: Promise<unknown> = Promise.resolve()
  return {
    take: <T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> => {
      const { promise, resolve, reject } = Promise.withResolvers<T>()
      const giveUp = (): void => reject(signal?.reason)
      if (signal?.aborted) giveUp()
      else signal?.addEventListener('abort', giveUp, { once: true })
      last = last.then(async () => {
        signal?.removeEventListener('abort', giveUp)
        if (signal?.aborted) return
        await work().then(resolve, reject)
      })
      return promise
    },
  }
}
