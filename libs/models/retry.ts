/** Tries again what failed only because nobody was there. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Code, Failure } from '@slipway/rpc'

/** How long and how patiently to try. */
export interface RetryOptions {
  /** From the first failure without progress in between, after which the last failure is thrown. Default 30 s. */
  readonly patienceMs?: number
  readonly signal?: AbortSignal | undefined
}

const defaultPatienceMs = 30_000
const firstPauseMs = 50
const longestPauseMs = 2000
const passing: readonly Code[] = [Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED]

/** Repeats an attempt until it succeeds, fails for a reason that will not pass, or patience ends. */
export async function retryUnavailable<T>(attempt: () => Promise<T>, options: RetryOptions = {}): Promise<T> {
  const patience = new Patience(options)
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      await patience.endure(error)
    }
  }
}

/** Counts failures in a row, and pauses between them: longer each time, and at least as long as the server asks. */
export class Patience {
  readonly #options: RetryOptions
  #pauseMs = firstPauseMs
  #endMs: number | undefined

  constructor(options: RetryOptions) {
    this.#options = options
  }

  /** Something was achieved: patience begins anew. */
  progressed(): void {
    this.#pauseMs = firstPauseMs
    this.#endMs = undefined
  }

  /**
   * Pauses before the next try; throws the error when patience is at its end, or when it will not pass: only what is
   * UNAVAILABLE or RESOURCE_EXHAUSTED does, and what has one of the reasons named.
   */
  async endure(error: unknown, reasons: readonly string[] = []): Promise<void> {
    const { patienceMs = defaultPatienceMs, signal } = this.#options
    if (!(error instanceof Failure) || !(passing.includes(error.code) || reasons.includes(error.reason))) throw error
    const pauseMs = Math.max(this.#pauseMs, error.retryAfterMs ?? 0)
    this.#endMs ??= performance.now() + patienceMs
    this.#pauseMs = Math.min(2 * this.#pauseMs, longestPauseMs)
    if (performance.now() + pauseMs > this.#endMs) throw error
    await sleep(pauseMs, undefined, { signal })
  }
}
