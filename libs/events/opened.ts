import { Code, Failure } from '@slipway/rpc'
import type { Subscription } from './bus.ts'

/** What is open on a bus, so that closing it ends everything once. */
export interface Opened {
  /** Throws FAILED_PRECONDITION when the bus is closed. */
  assertOpen(): void
  /** Starts a subscription that ends with the bus, even while it is being started. */
  subscribe(start: (closed: AbortSignal) => Promise<Subscription>): Promise<Subscription>
  /** Stops all subscriptions, then runs `release`; later calls join the first. */
  close(release: () => Promise<void>): Promise<void>
}

/** Creates the bookkeeping of one bus. */
export function createOpened(): Opened {
  const closed = new AbortController()
  const subscriptions = new Set<Promise<Subscription>>()
  let closing: Promise<void> | undefined

  function assertOpen(): void {
    if (closing !== undefined) throw busClosed()
  }

  async function end(release: () => Promise<void>): Promise<void> {
    closed.abort(busClosed())
    const stopped = [...subscriptions].map(async (one) => {
      const subscription = await one.catch(() => undefined)
      await subscription?.stop()
    })
    await Promise.all(stopped)
    await release()
  }

  return {
    assertOpen,
    subscribe: async (start) => {
      assertOpen()
      const starting = start(closed.signal)
      subscriptions.add(starting)
      try {
        const subscription = await starting
        return {
          caughtUp: () => subscription.caughtUp(),
          stop: async () => {
            await subscription.stop()
            subscriptions.delete(starting)
          },
        }
      } catch (error) {
        subscriptions.delete(starting)
        throw error
      }
    },
    close: (release) => {
      closing ??= end(release)
      return closing
    },
  }
}

const CLOSED = 'EVENT_BUS_CLOSED'

/** Whether an error says no more than that the bus was closed, by whoever opened it. */
export function isBusClosed(error: unknown): boolean {
  return error instanceof Failure && error.reason === CLOSED
}

function busClosed(): Failure {
  return new Failure(Code.FAILED_PRECONDITION, CLOSED, 'the event bus is closed')
}
