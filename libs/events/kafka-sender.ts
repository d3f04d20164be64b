/**
 * Publishes to Kafka in batches.
 *
 * 1. One send is outstanding at a time. With more, kafkajs gives the sequence numbers of a send whose answer was lost to
 *    the next one, and the broker takes that one for a repetition: an acknowledged record would be gone.
 * 2. A send whose outcome is not known is repeated with the same records and the same producer, so that the broker
 *    knows it again, until it is acknowledged. Its records never give way to others.
 * 3. After a send was given up, or the broker lost track of the sequence, a new producer begins a new sequence.
 * 4. A send counts only when every partition that it went to is in the answer.
 */
import { once } from 'node:events'
import { Code, Failure } from '@slipway/rpc'
import { logger } from '@slipway/telemetry'
import kafkajs, { type Message, type Producer } from 'kafkajs'
import { type EventRecord, limits, recordBytes } from './bus.ts'
import { atMost, pause, retryDelayMs } from './delivery.ts'
import type { KafkaAdmin } from './kafka-admin.ts'
import type { KafkaClient } from './kafka-client.ts'

/** Publishes in the order of the calls. */
export interface KafkaSender {
  /** Resolved means acknowledged by all replicas in sync. `bytes` is the size of the records. */
  send(records: readonly EventRecord[], bytes: number, signal: AbortSignal): Promise<void>
  /** Bytes that wait or are on their way. */
  readonly pendingBytes: number
  /** Tries for a while to publish what somebody waits for, then gives up the rest. */
  close(): Promise<void>
}

interface Entry {
  readonly records: readonly EventRecord[]
  readonly bytes: number
  readonly signal: AbortSignal
  /** The caller has gone. */
  readonly onAbort: () => void
  resolve(): void
  reject(error: unknown): void
}

/** A batch to one partition must stay under the broker's 1 MiB, so the whole send does. */
const maxSendBytes = limits.maxRecordBytes
const maxSendRecords = 2000
const closeTimeoutMs = 5000
const disconnectTimeoutMs = 1000

/** The broker will never take such a batch. */
const refusals: ReadonlySet<string> = new Set([
  'MESSAGE_TOO_LARGE',
  'RECORD_LIST_TOO_LARGE',
  'INVALID_RECORD',
  'INVALID_TOPIC_EXCEPTION',
  'POLICY_VIOLATION',
  'TOPIC_AUTHORIZATION_FAILED',
  'CLUSTER_AUTHORIZATION_FAILED',
])

/** The broker cannot tell any more what this producer has sent. */
const lostSequences: ReadonlySet<string> = new Set([
  'OUT_OF_ORDER_SEQUENCE_NUMBER',
  'UNKNOWN_PRODUCER_ID',
  'INVALID_PRODUCER_EPOCH',
  'PRODUCER_FENCED',
])

const log = logger('slipway.events.kafka')

/** Creates a sender; it connects with the first send, by a client that is its own. */
export function createKafkaSender({ kafka, end }: KafkaClient, admin: KafkaAdmin): KafkaSender {
  const queue: Entry[] = []
  let underway: readonly Entry[] = []
  const closing = new AbortController()
  const gaveUp = new AbortController()
  const chosen = new Set<string>()
  let producer: Promise<Producer> | undefined
  let pendingBytes = 0
  let running: Promise<void> | undefined

  async function connect(): Promise<Producer> {
    const created = kafka.producer({
      idempotent: true,
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
      createPartitioner: () => {
        const choose = kafkajs.Partitioners.DefaultPartitioner()
        return (args) => {
          const partition = choose(args)
          chosen.add(placeOf(args.topic, partition))
          return partition
        }
      },
    })
    await created.connect()
    return created
  }

  async function disconnect(): Promise<void> {
    const last = producer
    producer = undefined
    await last?.then((one) => one.disconnect()).catch(() => undefined)
  }

  /** Takes entries from the front that fit into one send. */
  function take(): Entry[] {
    const batch: Entry[] = []
    let bytes = 0
    let records = 0
    for (let next = queue[0]; next !== undefined; next = queue[0]) {
      const fits = bytes + next.bytes <= maxSendBytes && records + next.records.length <= maxSendRecords
      if (batch.length > 0 && !fits) break
      batch.push(next)
      bytes += next.bytes
      records += next.records.length
      queue.shift()
    }
    return batch
  }

  /** An entry whose caller has gone leaves the queue, unless it is on its way already. */
  function leave(entry: Entry): void {
    const index = queue.indexOf(entry)
    if (index < 0) return
    queue.splice(index, 1)
    settle(entry, () => entry.reject(entry.signal.reason))
  }

  function settle(entry: Entry, act: () => void): void {
    pendingBytes -= entry.bytes
    entry.signal.removeEventListener('abort', entry.onAbort)
    act()
  }

  async function sendOnce(records: readonly EventRecord[]): Promise<void> {
    const byTopic = Map.groupBy(records, (record) => record.topic)
    await admin.ensureTopics(byTopic.keys(), gaveUp.signal)
    producer ??= connect()
    const connected = await producer.catch((error: unknown) => {
      producer = undefined
      throw error
    })
    chosen.clear()
    const answers = await connected.sendBatch({
      acks: -1,
      topicMessages: [...byTopic].map(([topic, some]) => ({ topic, messages: some.map(messageOf) })),
    })
    const answered = new Set(answers.map(({ topicName, partition }) => placeOf(topicName, partition)))
    for (const place of chosen) if (!answered.has(place)) throw new Error(`no answer for ${place}`)
  }

  /** Sends until the records are acknowledged; throws when the broker refuses them or the sender is given up. */
  async function sendSurely(records: readonly EventRecord[]): Promise<void> {
    for (let failures = 0; ; failures += 1) {
      try {
        return await sendOnce(records)
      } catch (error) {
        const types = typesOf(error)
        if (gaveUp.signal.aborted || types.some((type) => refusals.has(type))) throw error
        if (types.some((type) => lostSequences.has(type))) await disconnect()
        log.warn('kafka took no records, sending them again', { records: records.length, failures, error })
        await pause(retryDelayMs(failures), gaveUp.signal)
      }
    }
  }

  async function run(): Promise<void> {
    // Calls of the same turn of the event loop share the first send.
    await Promise.resolve()
    for (let batch = take(); batch.length > 0; batch = take()) {
      underway = batch
      for (const part of partsOf(batch)) {
        try {
          await sendSurely(part.records)
          for (const entry of part.completes) settle(entry, entry.resolve)
        } catch (error) {
          await disconnect()
          const failure = failureOf(error)
          for (const entry of batch) settle(entry, () => entry.reject(failure))
          break
        }
      }
    }
    underway = []
    running = undefined
  }

  return {
    get pendingBytes() {
      return pendingBytes
    },
    send: (records, bytes, signal) =>
      new Promise((resolve, reject) => {
        if (closing.signal.aborted) return reject(failureOf(undefined))
        const entry: Entry = { records, bytes, signal, onAbort: () => leave(entry), resolve, reject }
        queue.push(entry)
        pendingBytes += bytes
        signal.addEventListener('abort', entry.onAbort, { once: true })
        running ??= run()
      }),
    close: async () => {
      closing.abort()
      const isAwaited = [...underway, ...queue].some((entry) => !entry.signal.aborted)
      const timer = setTimeout(() => gaveUp.abort(), isAwaited ? closeTimeoutMs : 0)
      if (running !== undefined) await Promise.race([running, once(gaveUp.signal, 'abort')])
      clearTimeout(timer)
      for (const entry of [...underway, ...queue]) entry.reject(failureOf(undefined))
      await atMost(disconnectTimeoutMs, disconnect())
      end()
    },
  }
}

/** The sends that a batch needs: one, or several when a single call had more records than a send takes. */
function partsOf(
  batch: readonly Entry[],
): { readonly records: readonly EventRecord[]; readonly completes: readonly Entry[] }[] {
  const records = batch.flatMap((entry) => entry.records)
  const parts: EventRecord[][] = [[]]
  let bytes = 0
  for (const record of records) {
    const size = recordBytes(record)
    const last = parts.at(-1) ?? []
    if (last.length > 0 && (bytes + size > maxSendBytes || last.length >= maxSendRecords)) {
      parts.push([record])
      bytes = size
    } else {
      last.push(record)
      bytes += size
    }
  }
  return parts.map((some, index) => ({ records: some, completes: index === parts.length - 1 ? batch : [] }))
}

const placeOf = (topic: string, partition: number): string => `${topic}/${partition}`

function messageOf({ key, value, headers }: EventRecord): Message {
  return { key, value: Buffer.from(value.buffer, value.byteOffset, value.byteLength), headers: { ...headers } }
}

/** The protocol error types of an error and its causes. */
function typesOf(error: unknown): string[] {
  const types: string[] = []
  for (let at: unknown = error; at instanceof Error && types.length < 10; at = at.cause) {
    types.push(String((at as { type?: unknown }).type))
  }
  return types
}

function failureOf(cause: unknown): Failure {
  if (typesOf(cause).some((type) => refusals.has(type))) {
    return new Failure(Code.FAILED_PRECONDITION, 'EVENT_REFUSED', 'kafka refuses the records', { cause })
  }
  return new Failure(Code.UNAVAILABLE, 'EVENT_BUS_UNAVAILABLE', 'kafka did not take the records', { cause })
}
