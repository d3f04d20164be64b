/**
 * One reader of an embedded bus.
 *
 * 1. It reads a batch only when the last one is handled and its position committed: nothing is read ahead.
 * 2. A timer renews its leases three times per lease, whatever the handler does. When the file says that a partition
 *    is no longer its own, the batch of it is aborted and its position not moved.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Code, Failure } from '@slipway/rpc'
import { logger } from '@slipway/telemetry'
import { limits, type SubscribeOptions, type Subscription } from './bus.ts'
import { type Delivery, pause, retryDelayMs } from './delivery.ts'
import type { EventFile } from './embedded-file.ts'
import type { Member } from './embedded-groups.ts'
import type { Partition } from './embedded-log.ts'
import { type PackedBatch, receivedOf, unpack } from './embedded-protocol.ts'

const log = logger('slipway.events')
const reachPollMs = 10

interface Held {
  readonly partition: Partition
  nextOffset: number
}

/** Joins the group and starts to read. */
export async function subscribeEmbedded(
  file: EventFile,
  options: SubscribeOptions,
  delivery: Delivery,
  leaseMs: number,
): Promise<Subscription> {
  const { isTemporary = false } = options
  const id = randomUUID()
  const group = isTemporary ? `${options.group}.${id}` : options.group
  const member: Member = { group, id, leaseMs, isTemporary, topics: [...options.topics] }
  const maxRecords = options.maxBatchRecords ?? limits.maxBatchRecords
  const stopped = new AbortController()
  const held = new Map<number, Held>()
  let busy: { readonly partitionId: number; readonly lost: AbortController } | undefined
  let wake: () => void = () => undefined

  await file.ask({ kind: 'join', member, from: options.from ?? 'earliest' })
  const forget = file.onAppend((partitionIds) => {
    if (partitionIds.some((id) => held.has(id))) wake()
  })

  async function claim(): Promise<void> {
    const claims = await file.ask({ kind: 'claim', member, busyPartitionId: busy?.partitionId })
    const claimed = new Set(claims.map(({ partition }) => partition.id))
    for (const id of held.keys()) {
      if (claimed.has(id)) continue
      held.delete(id)
      if (busy?.partitionId === id) busy.lost.abort()
    }
    for (const { partition, nextOffset } of claims) {
      if (!held.has(partition.id)) held.set(partition.id, { partition, nextOffset })
    }
    wake()
  }

  async function handle({ partition, packed, endOffset }: PackedBatch): Promise<void> {
    const batch = unpack(packed).map((record) => receivedOf(record, partition))
    const lost = new AbortController()
    busy = { partitionId: partition.id, lost }
    const done = await delivery.deliver(batch, BigInt(endOffset), AbortSignal.any([stopped.signal, lost.signal]))
    if (done && !lost.signal.aborted) await commit(partition.id, Number(batch.at(-1)?.offset) + 1)
    busy = undefined
  }

  async function commit(partitionId: number, nextOffset: number): Promise<void> {
    const isHolder = await file.ask({ kind: 'commit', member, partitionId, nextOffset })
    const current = held.get(partitionId)
    if (!isHolder) held.delete(partitionId)
    else if (current !== undefined) {
      current.nextOffset = nextOffset
      // The next read looks at the others first.
      held.delete(partitionId)
      held.set(partitionId, current)
    }
  }

  async function step(): Promise<void> {
    const news = new Promise<void>((resolve) => {
      wake = resolve
    })
    const claims = [...held.values()].map(({ partition, nextOffset }) => ({ partition, nextOffset }))
    const batch = await file.ask({ kind: 'read', claims, maxRecords, maxBytes: limits.maxBatchBytes })
    if (batch === undefined) await news
    else if (held.has(batch.partition.id) && !stopped.signal.aborted) await handle(batch)
  }

  async function run(): Promise<void> {
    let failures = 0
    while (!stopped.signal.aborted) {
      try {
        await step()
        failures = 0
      } catch (error) {
        busy = undefined
        log.warn('subscription failed, it goes on', { group: options.group, error })
        await pause(retryDelayMs(failures), stopped.signal)
        failures += 1
      }
    }
  }

  async function renew(): Promise<void> {
    await claim().catch((error: unknown) => log.warn('leases not renewed', { group: options.group, error }))
  }

  await claim()
  const renewing = setInterval(renew, leaseMs / 3)
  const running = run()
  let stopping: Promise<void> | undefined

  async function stop(): Promise<void> {
    stopped.abort()
    wake()
    await running
    clearInterval(renewing)
    forget()
    await file.ask({ kind: 'leave', member })
  }

  return {
    stop: () => {
      stopping ??= stop()
      return stopping
    },
    caughtUp: async () => {
      const ends = await file.ask({ kind: 'ends', topics: options.topics })
      while (await file.ask({ kind: 'behind', group, ends })) {
        if (stopped.signal.aborted)
          throw new Failure(Code.CANCELLED, 'SUBSCRIPTION_STOPPED', 'the subscription stopped')
        await sleep(reachPollMs)
      }
    },
  }
}
