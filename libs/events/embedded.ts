import { Code, Failure } from '@slipway/rpc'
import type { EventBus, Subscription, TopicSettings } from './bus.ts'
import { createDelivery } from './delivery.ts'
import { openEventFileThread } from './embedded-file.ts'
import { pack, storedOf } from './embedded-protocol.ts'
import { subscribeEmbedded } from './embedded-subscription.ts'
import { abortable, checkRecords, countPublished } from './publishing.ts'
import { topicSettings } from './topics.ts'

/** Where the bus lies and how it is laid out. */
export interface EmbeddedBusOptions {
  /** The SQLite file; several processes of one machine may share it. */
  readonly path: string
  /** Settings of topics besides Slipway's own. */
  readonly topics?: readonly TopicSettings[]
  /** How long a reader that died keeps its partitions, default 3000. */
  readonly leaseMs?: number
}

const defaultLeaseMs = 3000

/** Opens the event bus on a SQLite file. What it promises is written at `EventBus`. */
export function openEmbeddedBus(options: EmbeddedBusOptions): EventBus {
  const file = openEventFileThread(options.path)
  const subscriptions = new Set<Subscription>()
  let pendingBytes = 0
  let closing: Promise<void> | undefined
  void file.ask({ kind: 'define', topics: [...topicSettings, ...(options.topics ?? [])] }).catch(() => undefined)

  const bus: EventBus = {
    publish: async (records, { signal } = {}) => {
      assertOpen()
      signal?.throwIfAborted()
      if (records.length === 0) return
      const bytes = checkRecords(records, pendingBytes)
      pendingBytes += bytes
      const packed = pack(records.map(storedOf))
      const done = file.ask({ kind: 'append', packed }, [packed.values.buffer]).finally(() => {
        pendingBytes -= bytes
      })
      await abortable(done, signal)
      countPublished(records)
    },
    subscribe: async (subscribe) => {
      assertOpen()
      const delivery = createDelivery(subscribe, (record) => bus.publish([record]))
      const subscription = await subscribeEmbedded(file, subscribe, delivery, options.leaseMs ?? defaultLeaseMs)
      subscriptions.add(subscription)
      return {
        caughtUp: subscription.caughtUp,
        stop: async () => {
          await subscription.stop()
          subscriptions.delete(subscription)
        },
      }
    },
    close: () => {
      closing ??= close()
      return closing
    },
  }

  async function close(): Promise<void> {
    await Promise.all([...subscriptions].map((subscription) => subscription.stop()))
    await file.release()
  }

  function assertOpen(): void {
    if (closing !== undefined)
      throw new Failure(Code.FAILED_PRECONDITION, 'EVENT_BUS_CLOSED', 'the event bus is closed')
  }

  return bus
}
