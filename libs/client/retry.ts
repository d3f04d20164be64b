/** Tries again what failed only because nobody was there. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Code, Failure } from '@slipway/rpc'

/** How long and how patiently to try. */
export interface RetryOptions {
  /** From the first try on, after which the last failure is thrown. Default 30 s. */
  readonly patienceMs?: number
  readonly signal?: AbortSignal | undefined
}

const defaultPatienceMs = 30_000
const firstDelayMs = 100
const longestDelayMs = 3000

/** Runs `attempt` until it succeeds, fails with anything but UNAVAILABLE, or patience is over; waits longer each time. */
export async function retryUnavailable<T>(attempt: () => Promise<T>, options: RetryOptions = {}): Promise<T> {
  const { patienceMs = defaultPatienceMs, signal } = options
  const endMs = performance.now() + patienceMs
  for (let delayMs = firstDelayMs; ; delayMs = Math.min(2 * delayMs, longestDelayMs)) {
    try {
      return await attempt()
    } catch (error) {
      const failure = Failure.from(error)
      const waitMs = Math.max(delayMs, failure.retryAfterMs ?? 0)
      if (failure.code !== Code.UNAVAILABLE || performance.now() + waitMs > endMs) throw error
      await sleep(waitMs, undefined, { signal })
    }
  }
}
