/**
 * Topics and offsets of a Kafka cluster.
 *
 * Every call goes on until it succeeds or its signal is aborted: kafkajs gives up early and not on all errors that
 * pass, such as its plain "Broker not connected".
 */
import { logger } from '@slipway/telemetry'
import type { Admin } from 'kafkajs'
import { defaultTopic, type StartPosition, type TopicSettings } from './bus.ts'
import { atMost, pause, retryDelayMs } from './delivery.ts'
import type { KafkaClient } from './kafka-client.ts'
import { abortable } from './publishing.ts'

/** An offset in a partition of a topic. */
export interface TopicOffset {
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
}

/** What the adapter asks of a cluster. */
export interface KafkaAdmin {
  /** Makes the topics that are not there. */
  ensureTopics(topics: Iterable<string>, signal: AbortSignal): Promise<void>
  /** The end of every partition. */
  ends(topics: readonly string[], signal: AbortSignal): Promise<TopicOffset[]>
  /** What a start position means in every partition. */
  starts(topics: readonly string[], from: StartPosition, signal: AbortSignal): Promise<TopicOffset[]>
  /** The group's position in every partition where it has one. */
  positions(group: string, topics: readonly string[], signal: AbortSignal): Promise<TopicOffset[]>
  /** Drops a group that nobody is in any more. Rejects when the signal is aborted first. */
  forget(group: string, signal: AbortSignal): Promise<void>
  close(): Promise<void>
}

const disconnectTimeoutMs = 1000
const log = logger('slipway.events.kafka')

/** Connects on first use, by a client that is its own. */
export function createKafkaAdmin(
  { kafka, end }: KafkaClient,
  settings: ReadonlyMap<string, TopicSettings>,
): KafkaAdmin {
  const present = new Set<string>()
  let connected: Promise<Admin> | undefined

  async function connect(): Promise<Admin> {
    const admin = kafka.admin()
    await admin.connect()
    return admin
  }

  async function disconnect(): Promise<void> {
    const last = connected
    connected = undefined
    await last?.then((admin) => admin.disconnect()).catch(() => undefined)
  }

  async function attempt<T>(work: (admin: Admin) => Promise<T>): Promise<T> {
    connected ??= connect()
    return await work(await connected)
  }

  async function persist<T>(what: string, signal: AbortSignal, work: (admin: Admin) => Promise<T>): Promise<T> {
    for (let failures = 0; ; failures += 1) {
      signal.throwIfAborted()
      try {
        return await abortable(attempt(work), signal)
      } catch (error) {
        signal.throwIfAborted()
        log.warn('kafka did not answer, asking again', { what, failures, error })
        await disconnect()
        await pause(retryDelayMs(failures), signal)
      }
    }
  }

  async function ensureTopics(topics: Iterable<string>, signal: AbortSignal): Promise<void> {
    const missing = [...new Set(topics)].filter((topic) => !present.has(topic))
    if (missing.length === 0) return
    await persist('createTopics', signal, async (admin) => {
      const existing = new Set(await admin.listTopics())
      const wanted = missing.filter((topic) => !existing.has(topic))
      if (wanted.length > 0) {
        await admin.createTopics({
          topics: wanted.map((topic) => layoutOf(settings.get(topic) ?? defaultTopic(topic))),
        })
      }
    })
    for (const topic of missing) present.add(topic)
  }

  return {
    ensureTopics,
    ends: (topics, signal) =>
      persist('ends', signal, (admin) =>
        eachTopic(topics, async (topic) => offsetsOf(topic, await admin.fetchTopicOffsets(topic), 'high')),
      ),
    starts: (topics, from, signal) =>
      persist('starts', signal, (admin) =>
        eachTopic(topics, async (topic) => {
          if (from === 'latest') return offsetsOf(topic, await admin.fetchTopicOffsets(topic), 'high')
          if (from === 'earliest') return offsetsOf(topic, await admin.fetchTopicOffsets(topic), 'low')
          const timeMs = Number(from.timeMicros / 1000n)
          return offsetsOf(topic, await admin.fetchTopicOffsetsByTimestamp(topic, timeMs), 'offset')
        }),
      ),
    positions: (group, topics, signal) =>
      persist('positions', signal, async (admin) => {
        const found = await admin.fetchOffsets({ groupId: group, topics: [...topics] })
        return found
          .flatMap(({ topic, partitions }) => offsetsOf(topic, partitions, 'offset'))
          .filter(({ offset }) => offset >= 0n)
      }),
    forget: (group, signal) =>
      persist('deleteGroups', signal, async (admin) => {
        await admin.deleteGroups([group])
      }),
    close: () => atMost(disconnectTimeoutMs, disconnect()).finally(end),
  }
}

/** Time is the broker's, so that it never goes back and retention does not depend on what publishers say. */
function layoutOf({ name, partitions, retentionMs, retentionBytes }: TopicSettings) {
  return {
    topic: name,
    numPartitions: partitions,
    replicationFactor: -1,
    configEntries: [
      { name: 'retention.ms', value: String(retentionMs) },
      { name: 'retention.bytes', value: String(retentionBytes) },
      { name: 'message.timestamp.type', value: 'LogAppendTime' },
    ],
  }
}

async function eachTopic(
  topics: readonly string[],
  work: (topic: string) => Promise<TopicOffset[]>,
): Promise<TopicOffset[]> {
  return (await Promise.all(topics.map(work))).flat()
}

function offsetsOf<K extends string>(
  topic: string,
  partitions: readonly ({ readonly partition: number } & { readonly [key in K]: string })[],
  which: K,
): TopicOffset[] {
  return partitions.map((entry) => ({ topic, partition: entry.partition, offset: BigInt(entry[which]) }))
}
