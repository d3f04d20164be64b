import { getEventListeners } from 'node:events'
import type { Kafka, ProducerBatch } from 'kafkajs'
import { expect, test } from 'vitest'
import type { EventRecord } from './bus.ts'
import type { KafkaAdmin } from './kafka-admin.ts'
import { createKafkaSender, type KafkaSender } from './kafka-sender.ts'
import { recordOf } from './record.fixture.ts'

/** A cluster that acknowledges everything, and can be made to wait with it. */
function senderTo(cluster: { acknowledge: () => Promise<void> }): KafkaSender {
  const producer = {
    connect: async () => undefined,
    disconnect: async () => undefined,
    sendBatch: async ({ topicMessages = [] }: ProducerBatch) => {
      await cluster.acknowledge()
      return topicMessages.map(({ topic }) => ({ topicName: topic, partition: 0, errorCode: 0 }))
    },
  }
  const kafka = { producer: () => producer } as unknown as Kafka
  const admin = { ensureTopics: async () => undefined } as unknown as KafkaAdmin
  return createKafkaSender({ kafka, end: () => undefined }, admin)
}

const records: EventRecord[] = [recordOf('topic', 'key', 1)]

test('a publisher that lives on keeps nothing of the sends that are over', async () => {
  const publisher = new AbortController()
  const sender = senderTo({ acknowledge: async () => undefined })
  for (let call = 0; call < 3; call += 1) await sender.send(records, 10, publisher.signal)
  expect(getEventListeners(publisher.signal, 'abort')).toHaveLength(0)
  expect(sender.pendingBytes).toBe(0)
  await sender.close()
})

test('a caller that goes takes its records out of the queue, but not from a send on its way', async () => {
  const acknowledged = Promise.withResolvers<void>()
  const sender = senderTo({ acknowledge: () => acknowledged.promise })
  const [first, second] = [new AbortController(), new AbortController()]
  const underway = sender.send(records, 10, first.signal)
  await new Promise(setImmediate)
  const queued = sender.send(records, 10, second.signal)
  second.abort(new Error('gone'))
  first.abort(new Error('gone'))
  await expect(queued).rejects.toThrow('gone')
  expect(sender.pendingBytes).toBe(10)
  acknowledged.resolve()
  await underway
  expect(sender.pendingBytes).toBe(0)
  await sender.close()
})
