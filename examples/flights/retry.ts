/** Calls again what a service could not answer for the moment, as a caller in production would. */
import { setTimeout as delay } from 'node:timers/promises'
import { Code, Failure } from '@slipway/rpc'

const firstDelayMs = 50
const longestDelayMs = 1_000

/** Passing conditions: away, overloaded, or too slow for one attempt. */
const passing: ReadonlySet<number> = new Set([Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED])

/**
 * Makes a call until it is answered, refused for good, or `giveUpMs` have gone by; then the last failure is thrown. The
 * call must be safe to repeat.
 */
export async function untilAnswered<T>(call: () => Promise<T>, giveUpMs = 30_000): Promise<T> {
  const deadline = performance.now() + giveUpMs
  for (let attempt = 0; ; attempt++) {
    try {
      return await call()
    } catch (error) {
      const waitMs = Math.min(firstDelayMs * 2 ** attempt, longestDelayMs) * (0.5 + Math.random() / 2)
      const again = error instanceof Failure && passing.has(error.code) && performance.now() + waitMs < deadline
      if (!again) throw error
      await delay(waitMs)
    }
  }
}
