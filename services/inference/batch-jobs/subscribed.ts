import { setTimeout as sleep } from 'node:timers/promises'
import { isBusClosed, type Subscription } from '@slipway/events'
import type { Logger } from '@slipway/telemetry'

const RETRY_MS = 1000

/** Subscribes as soon as the bus can be read; undefined when the signal came first, or the bus was closed. */
export async function subscribed(
  signal: AbortSignal,
  log: Logger,
  subscribe: () => Promise<Subscription>,
): Promise<Subscription | undefined> {
  while (!signal.aborted) {
    try {
      const subscription = await subscribe()
      if (!signal.aborted) return subscription
      await subscription.stop()
    } catch (error) {
      if (signal.aborted || isBusClosed(error)) break
      log.warn('the event bus cannot be read yet', { error })
      await sleep(RETRY_MS, undefined, { signal }).catch(() => undefined)
    }
  }
  return undefined
}
