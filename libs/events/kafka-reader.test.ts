import type { Kafka } from 'kafkajs'
import { expect, test } from 'vitest'
import type { KafkaAdmin } from './kafka-admin.ts'
import { type KafkaReaderParts, subscribeKafka } from './kafka-reader.ts'

type Place = { topic: string; partitions: number[] }
type Join = (event: { payload: { memberAssignment: Record<string, number[]> } }) => void

/** A consumer of one topic that remembers what is paused and what was committed. */
class FakeConsumer {
  readonly events = { GROUP_JOIN: 'join', CRASH: 'crash' }
  readonly paused = new Set<number>()
  readonly committed: string[] = []
  readonly starts = Promise.withResolvers<void>()
  commitFailures = 0
  #join: Join = () => undefined

  on(name: string, listener: Join): void {
    if (name === 'join') this.#join = listener
  }

  join(partitions: number[]): void {
    this.#join({ payload: { memberAssignment: { topic: partitions } } })
  }

  pause(places: readonly Place[]): void {
    for (const partition of places.flatMap(({ partitions }) => partitions)) this.paused.add(partition)
  }

  resume(places: readonly Place[]): void {
    for (const partition of places.flatMap(({ partitions }) => partitions)) this.paused.delete(partition)
  }

  async commitOffsets(offsets: readonly { partition: number; offset: string }[]): Promise<void> {
    if (this.commitFailures > 0) {
      this.commitFailures -= 1
      throw new Error('the coordinator is away')
    }
    this.committed.push(...offsets.map(({ partition, offset }) => `${partition}@${offset}`))
  }

  seek(): void {}
  async connect(): Promise<void> {}
  async subscribe(): Promise<void> {}
  async run(): Promise<void> {}
  async stop(): Promise<void> {}
  async disconnect(): Promise<void> {}
}

function partsOf(consumer: FakeConsumer): KafkaReaderParts {
  const admin = {
    ensureTopics: async () => undefined,
    positions: async () => [],
    starts: async () => {
      await consumer.starts.promise
      return [0, 1].map((partition) => ({ topic: 'topic', partition, offset: 7n }))
    },
  }
  return {
    connect: () => ({ kafka: { consumer: () => consumer } as unknown as Kafka, end: () => undefined }),
    admin: admin as unknown as KafkaAdmin,
    delivery: { deliver: async () => true },
    times: { sessionTimeoutMs: 10_000, rebalanceTimeoutMs: 30_000 },
    closed: new AbortController().signal,
  }
}

const options = { topics: ['topic'], group: 'group', handle: async () => undefined }

test('a group whose start cannot be written yet goes on trying, and then reads', async () => {
  const consumer = new FakeConsumer()
  consumer.commitFailures = 2
  consumer.starts.resolve()
  const subscribing = subscribeKafka(partsOf(consumer), options)
  await new Promise(setImmediate)
  consumer.join([0, 1])
  const subscription = await subscribing
  expect(consumer.committed).toEqual(['0@7', '1@7'])
  expect([...consumer.paused]).toEqual([])
  await subscription.stop()
})

test('an assignment that is no longer the latest starts no partition', async () => {
  const consumer = new FakeConsumer()
  const subscribing = subscribeKafka(partsOf(consumer), options)
  await new Promise(setImmediate)
  consumer.join([0, 1])
  consumer.join([0])
  consumer.starts.resolve()
  const subscription = await subscribing
  await new Promise(setImmediate)
  expect(consumer.committed).toEqual(['0@7'])
  expect([...consumer.paused]).toEqual([1])
  await subscription.stop()
})
