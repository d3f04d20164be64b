import type { EventBus, TopicSettings } from './bus.ts'
import { createDelivery } from './delivery.ts'
import { openEventFileThread } from './embedded-file.ts'
import { pack, storedOf } from './embedded-protocol.ts'
import { subscribeEmbedded } from './embedded-subscription.ts'
import { createOpened } from './opened.ts'
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
  const opened = createOpened()
  let pendingBytes = 0
  void file.ask({ kind: 'define', topics: [...topicSettings, ...(options.topics ?? [])] }).catch(() => undefined)

  const bus: EventBus = {
    publish: async (records, { signal } = {}) => {
      opened.assertOpen()
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
    subscribe: (subscribe) =>
      opened.subscribe(() => {
        const delivery = createDelivery(subscribe, (record) => bus.publish([record]))
        return subscribeEmbedded(file, subscribe, delivery, options.leaseMs ?? defaultLeaseMs)
      }),
    close: () => opened.close(file.release),
  }
  return bus
}
