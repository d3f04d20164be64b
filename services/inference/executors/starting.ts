/** The start of an executor: what it waits for, what it measures. */
import { START_LIMIT_MS } from './executor.ts'

/** Who listens to the other side of an executor: its start, and after it the executor. */
export interface Listener<Message> {
  hear(message: Message): void
  gone(reason: string): void
}

/** Settles as `begin` has it; rejects when the signal gives up, or when a start takes too long. */
export async function awaitStart<T>(
  begin: (resolve: (value: T) => void, reject: (error: Error) => void) => void,
  signal: AbortSignal | undefined,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  let giveUp: (() => void) | undefined
  try {
    return await new Promise<T>((resolve, reject) => {
      giveUp = () => reject(new Error('the start was given up'))
      signal?.addEventListener('abort', giveUp)
      if (signal?.aborted) giveUp()
      timer = setTimeout(() => reject(new Error(`the model did not load within ${START_LIMIT_MS} ms`)), START_LIMIT_MS)
      begin(resolve, reject)
    })
  } finally {
    clearTimeout(timer)
    if (giveUp) signal?.removeEventListener('abort', giveUp)
  }
}

/** How many things were going on at once, at most, while each of them was. */
export class Overlaps {
  readonly #active = new Set<{ most: number }>()

  /** Something begins; call the result when it ends, for the most that went on at once meanwhile. */
  begin(): () => number {
    const entry = { most: 0 }
    this.#active.add(entry)
    for (const one of this.#active) one.most = Math.max(one.most, this.#active.size)
    return () => {
      this.#active.delete(entry)
      return entry.most
    }
  }
}
