/**
 * One reader of a Kafka consumer group.
 *
 * 1. A position is committed only after its records were handled or parked, and for the start of a group before
 *    anything is read: partitions without a position stay paused until theirs is written.
 * 2. While a handler runs, heartbeats go on. When one says that the group is rebalancing, the batch is aborted and
 *    its position not moved.
 * 3. It never ends by itself: whatever stops kafkajs for good is answered with a new consumer.
 * 4. A stop waits for the handler that runs, however long, and after that for the cluster no longer than `leaveLimitMs`:
 *    not for a group that is being formed, nor for a broker that is gone. To drop a temporary group it
 *    takes as long again at most; one that could not be dropped goes with the cluster's own retention of positions.
 */
import { randomUUID } from 'node:crypto'
import { Code, Failure } from '@slipway/rpc'
import { logger } from '@slipway/telemetry'
import type { Consumer, EachBatchPayload, IHeaders, KafkaMessage } from 'kafkajs'
import { limits, type ReceivedRecord, recordBytes, type SubscribeOptions, type Subscription } from './bus.ts'
import { atMost, type Delivery, pause, retryDelayMs } from './delivery.ts'
import type { KafkaAdmin, TopicOffset } from './kafka-admin.ts'
import type { KafkaClient } from './kafka-client.ts'

/** How fast a group notices that a reader died. */
export interface KafkaGroupTimes {
  readonly sessionTimeoutMs: number
  readonly rebalanceTimeoutMs: number
}

/** What a reader works with. */
export interface KafkaReaderParts {
  /** Makes a client for this reader alone. */
  connect(): KafkaClient
  readonly admin: KafkaAdmin
  readonly delivery: Delivery
  readonly times: KafkaGroupTimes
  /** Aborted when the bus is closed. */
  readonly closed: AbortSignal
}

const maxWaitMs = 250
/** Time for the last position and for leaving the group. */
const leaveLimitMs = 3000
const reachPollMs = 25
const log = logger('slipway.events.kafka')

/**
 * The consumer group in Kafka. Its name has the topics in it: kafkajs deals all partitions that anybody in a group asked
 * for to all of its members, so two subscriptions of one group to different topics would lose half of each.
 */
function kafkaGroupOf({ group, topics, isTemporary }: SubscribeOptions): string {
  const name = `${group}.${topics.toSorted().join('+')}`
  return isTemporary ? `${name}.${randomUUID()}` : name
}

/** Joins the group and starts to read; waits for the cluster as long as it takes. */
export async function subscribeKafka(
  { connect, admin, delivery, times, closed }: KafkaReaderParts,
  options: SubscribeOptions,
): Promise<Subscription> {
  const group = kafkaGroupOf(options)
  const topics = [...options.topics]
  const { kafka, end } = connect()
  const stopping = new AbortController()
  const signal = AbortSignal.any([stopping.signal, closed])
  const joined = Promise.withResolvers<void>()
  let hasJoined = false
  let consumer: Consumer | undefined
  let latestAssigned: readonly object[] = []
  let starting: Promise<void> | undefined
  let handling: Promise<boolean> | undefined

  function create(): Consumer {
    return kafka.consumer({
      groupId: group,
      allowAutoTopicCreation: false,
      sessionTimeout: times.sessionTimeoutMs,
      // Readers hear of a rebalance with a heartbeat, and all others wait for the last one to hear of it.
      heartbeatInterval: Math.floor(times.sessionTimeoutMs / 10),
      rebalanceTimeout: times.rebalanceTimeoutMs,
      maxWaitTimeInMs: maxWaitMs,
      // Each broker is asked for so much at once.
      maxBytes: limits.maxReadAheadBytes / 8,
      retry: { retries: 10, initialRetryTime: 50, maxRetryTime: 1000, restartOnFailure: async () => !signal.aborted },
    })
  }

  async function start(): Promise<void> {
    const created = create()
    consumer = created
    created.on(created.events.GROUP_JOIN, ({ payload }) => fixStart(created, payload.memberAssignment))
    let isRunning = false
    let crash: Error | undefined
    created.on(created.events.CRASH, ({ payload }) => {
      if (payload.restart || signal.aborted) return
      crash = payload.error
      if (!isRunning) return
      log.warn('consumer ended, starting another', { group, error: crash })
      void startSurely()
    })
    await created.connect()
    // Only for partitions that are new since: a start that counts is committed before it is read from.
    await created.subscribe({ topics, fromBeginning: true })
    signal.throwIfAborted()
    await created.run({ autoCommit: false, eachBatchAutoResolve: false, eachBatch: handleBatch })
    if (crash !== undefined) throw crash
    isRunning = true
  }

  async function startSurely(): Promise<void> {
    starting ??= startUntilStopped().finally(() => {
      starting = undefined
    })
    await starting
  }

  async function startUntilStopped(): Promise<void> {
    for (let failures = 0; !signal.aborted; failures += 1) {
      await consumer?.disconnect().catch(() => undefined)
      try {
        return await start()
      } catch (error) {
        if (signal.aborted) return
        log.warn('consumer did not start, trying again', { group, failures, error })
        await pause(retryDelayMs(failures), signal)
      }
    }
  }

  /** Writes positions where the group has none and lets the reading begin; a later assignment takes over from an earlier. */
  async function fixStart(of: Consumer, assignment: Record<string, readonly number[]>): Promise<void> {
    const assigned = Object.entries(assignment).map(([topic, partitions]) => ({ topic, partitions: [...partitions] }))
    latestAssigned = assigned
    of.pause(assigned)
    for (let failures = 0; !signal.aborted && latestAssigned === assigned; failures += 1) {
      try {
        const unfixed = await startsOf(assigned)
        if (latestAssigned !== assigned) return
        for (const { topic, partition, offset } of unfixed) of.seek({ topic, partition, offset: String(offset) })
        if (unfixed.length > 0) await of.commitOffsets(unfixed.map((one) => ({ ...one, offset: String(one.offset) })))
        if (latestAssigned !== assigned) return
        of.resume(assigned)
        hasJoined = true
        return joined.resolve()
      } catch (error) {
        log.warn('start of the group not fixed, trying again', { group, failures, error })
        await pause(retryDelayMs(failures), signal)
      }
    }
  }

  /** Where the partitions start in which the group has no position yet. */
  async function startsOf(assigned: { topic: string; partitions: number[] }[]): Promise<TopicOffset[]> {
    const places = new Set(assigned.flatMap(({ topic, partitions }) => partitions.map((one) => `${topic}/${one}`)))
    if (places.size === 0) return []
    for (const { topic, partition } of await admin.positions(group, topics, signal))
      places.delete(`${topic}/${partition}`)
    if (places.size === 0) return []
    const starts = await admin.starts(topics, options.from ?? 'earliest', signal)
    return starts.filter(({ topic, partition }) => places.has(`${topic}/${partition}`))
  }

  async function handleBatch(payload: EachBatchPayload): Promise<void> {
    const { batch } = payload
    const records = batch.messages.map((message) => receivedOf(batch.topic, batch.partition, message))
    for (const chunk of chunksOf(records, options.maxBatchRecords ?? limits.maxBatchRecords)) {
      if (signal.aborted || !payload.isRunning() || payload.isStale()) return
      if (!(await handleChunk(payload, chunk))) return
    }
  }

  async function handleChunk(payload: EachBatchPayload, chunk: readonly ReceivedRecord[]): Promise<boolean> {
    const { topic, partition, highWatermark } = payload.batch
    const last = chunk.at(-1)
    if (last === undefined) return true
    const lost = new AbortController()
    const beat = (): Promise<void> => payload.heartbeat().catch((error: unknown) => lost.abort(error))
    const beating = setInterval(beat, times.sessionTimeoutMs / 8)
    handling = delivery
      .deliver(chunk, BigInt(highWatermark), AbortSignal.any([signal, lost.signal]))
      .finally(() => clearInterval(beating))
    const isDone = await handling
    if (lost.signal.aborted) throw lost.signal.reason
    if (!isDone) return false
    payload.resolveOffset(String(last.offset))
    await payload.commitOffsetsIfNecessary({
      topics: [{ topic, partitions: [{ partition, offset: String(last.offset + 1n) }] }],
    })
    await beat()
    if (lost.signal.aborted) throw lost.signal.reason
    return true
  }

  async function stop(): Promise<void> {
    stopping.abort(new Failure(Code.CANCELLED, 'SUBSCRIPTION_STOPPED', 'the subscription stopped'))
    const left = leave()
    await handling?.catch(() => undefined)
    await atMost(leaveLimitMs, left)
    end()
    if (options.isTemporary && hasJoined)
      await admin.forget(group, AbortSignal.timeout(leaveLimitMs)).catch(() => undefined)
  }

  async function leave(): Promise<void> {
    // Only who has joined can leave; the group would miss anybody else for as long as a session.
    await starting
    await consumer?.stop().catch(() => undefined)
    await consumer?.disconnect().catch(() => undefined)
  }

  async function caughtUp(): Promise<void> {
    const ends = await admin.ends(topics, signal)
    for (;;) {
      const positions = await admin.positions(group, topics, signal)
      const reached = new Map(positions.map(({ topic, partition, offset }) => [`${topic}/${partition}`, offset]))
      if (ends.every(({ topic, partition, offset }) => (reached.get(`${topic}/${partition}`) ?? 0n) >= offset)) return
      await pause(reachPollMs, signal)
    }
  }

  let stopped: Promise<void> | undefined
  const subscription: Subscription = {
    caughtUp,
    stop: () => {
      stopped ??= stop()
      return stopped
    },
  }
  signal.addEventListener('abort', () => joined.reject(signal.reason), { once: true })
  joined.promise.catch(() => undefined)
  try {
    await admin.ensureTopics(topics, signal)
    await Promise.race([startSurely().then(() => joined.promise), joined.promise])
    return subscription
  } catch (error) {
    await subscription.stop()
    throw error
  }
}

function receivedOf(topic: string, partition: number, message: KafkaMessage): ReceivedRecord {
  return {
    topic,
    partition,
    offset: BigInt(message.offset),
    timeMicros: BigInt(message.timestamp) * 1000n,
    key: message.key?.toString() ?? '',
    value: message.value ?? new Uint8Array(),
    headers: headersOf(message.headers),
  }
}

function headersOf(headers: IHeaders | undefined): Record<string, string> {
  const texts: Record<string, string> = {}
  for (const name in headers) {
    const value = headers[name]
    const single = Array.isArray(value) ? value.at(-1) : value
    if (single !== undefined) texts[name] = single.toString()
  }
  return texts
}

function chunksOf(records: readonly ReceivedRecord[], maxRecords: number): ReceivedRecord[][] {
  const chunks: ReceivedRecord[][] = []
  let bytes = 0
  for (const record of records) {
    const size = recordBytes(record)
    const last = chunks.at(-1)
    if (last === undefined || last.length >= maxRecords || bytes + size > limits.maxBatchBytes) {
      chunks.push([record])
      bytes = size
    } else {
      last.push(record)
      bytes += size
    }
  }
  return chunks
}
