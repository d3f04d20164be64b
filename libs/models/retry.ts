import { Code, Failure } from '@slipway/rpc'

/** How often and how patiently a step is tried again. */
export interface RetryOptions {
  /** Failures in a row without progress before giving up, default 6. */
  readonly attempts?: number
  /** Pause after the first failure, doubled after each further one up to 5 s; default 100. */
  readonly backoffMs?: number
  readonly signal?: AbortSignal
}

const longestPauseMs = 5000
const passing: readonly number[] = [Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED, Code.ABORTED]

/** Whether the same request may succeed later. */
export function isPassing(error: unknown): boolean {
  return error instanceof Failure && passing.includes(error.code)
}

/** Counts failures in a row, and pauses between them. */
export class Patience {
  readonly #options: RetryOptions
  #failures = 0

  constructor(options: RetryOptions) {
    this.#options = options
  }

  /** Something was achieved: the count starts anew. */
  progressed(): void {
    this.#failures = 0
  }

  /** Pauses before the next try; throws the error when it will not pass, or when patience is at its end. */
  async endure(error: unknown): Promise<void> {
    const { attempts = 6, backoffMs = 100, signal } = this.#options
    this.#failures += 1
    if (!isPassing(error) || this.#failures >= attempts || signal?.aborted === true) throw error
    const pauseMs = Math.min(backoffMs * 2 ** (this.#failures - 1), longestPauseMs)
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
    signal?.throwIfAborted()
  }
}
