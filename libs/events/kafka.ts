import { Code, Failure } from '@slipway/rpc'
import type { EventBus, TopicSettings } from './bus.ts'
import { createDelivery } from './delivery.ts'
import { createKafkaAdmin } from './kafka-admin.ts'
import { createKafkaClient } from './kafka-client.ts'
import { subscribeKafka } from './kafka-reader.ts'
import { createKafkaSender } from './kafka-sender.ts'
import { createOpened } from './opened.ts'
import { abortable, checkRecords, countPublished } from './publishing.ts'
import { topicSettings } from './topics.ts'

/** Which cluster, as whom, and how patiently. */
export interface KafkaBusOptions {
  /** `host:port` of some of the brokers. */
  readonly brokers: readonly string[]
  /** Names the service in the cluster's logs and quotas. */
  readonly clientId: string
  /** Settings of topics besides Slipway's own; a topic that exists keeps its own. */
  readonly topics?: readonly TopicSettings[]
  /** How long a reader that died keeps its partitions, default 10 000; the cluster bounds it, by default from 6000 on. */
  readonly sessionTimeoutMs?: number
  /** How long a rebalance waits for a handler that still runs, default 30 000. */
  readonly rebalanceTimeoutMs?: number
  /** How long `publish` waits before it is UNAVAILABLE, default 30 000. */
  readonly publishTimeoutMs?: number
}

/**
 * Opens the event bus on Apache Kafka; it connects when it is first used. What it promises is written at `EventBus`.
 * While the cluster is away `subscribe` waits, subscriptions come back by themselves, and `publish` waits up to
 * `publishTimeoutMs`.
 */
export function openKafkaBus(options: KafkaBusOptions): EventBus {
  const settings = new Map([...topicSettings, ...(options.topics ?? [])].map((topic) => [topic.name, topic]))
  const connect = () => createKafkaClient(options.brokers, options.clientId)
  const admin = createKafkaAdmin(connect(), settings)
  const sender = createKafkaSender(connect(), admin)
  const publishTimeoutMs = options.publishTimeoutMs ?? 30_000
  const opened = createOpened()
  const times = {
    sessionTimeoutMs: options.sessionTimeoutMs ?? 10_000,
    rebalanceTimeoutMs: options.rebalanceTimeoutMs ?? 30_000,
  }

  async function close(): Promise<void> {
    // From the beginning: a handler that is waited for may itself wait for what it publishes.
    const sent = sender.close()
    await opened.close(async () => {
      await sent
      await admin.close()
    })
  }
  let closing: Promise<void> | undefined

  const bus: EventBus = {
    publish: async (records, { signal } = {}) => {
      opened.assertOpen()
      signal?.throwIfAborted()
      if (records.length === 0) return
      const bytes = checkRecords(records, sender.pendingBytes)
      const timeout = new AbortController()
      const timer = setTimeout(() => timeout.abort(timedOut(publishTimeoutMs)), publishTimeoutMs)
      const ended = signal === undefined ? timeout.signal : AbortSignal.any([timeout.signal, signal])
      await abortable(sender.send(records, bytes, ended), ended).finally(() => clearTimeout(timer))
      countPublished(records)
    },
    subscribe: (subscribe) =>
      opened.subscribe((closed) => {
        const delivery = createDelivery(subscribe, (record) => bus.publish([record]))
        return subscribeKafka({ connect, admin, delivery, times, closed }, subscribe)
      }),
    close: () => {
      closing ??= close()
      return closing
    },
  }
  return bus
}

function timedOut(timeoutMs: number): Failure {
  return new Failure(Code.UNAVAILABLE, 'EVENT_BUS_UNAVAILABLE', `kafka took no records for ${timeoutMs} ms`)
}
