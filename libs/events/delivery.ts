/**
 * What happens between a batch that was read and the position that is committed; the same for every adapter.
 *
 * 1. `deliver` resolves true only when every record was handled or parked, false when the signal ended it before.
 * 2. Poison is parked before the group goes on; when that fails it is an error like any other.
 * 3. An error repeats the records that are left, after a delay that doubles from `limits.minRetryMs` to
 *    `limits.maxRetryMs`, less up to half of it at random.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { attribute, logger, meter, metric } from '@slipway/telemetry'
import { type EventRecord, limits, type ReceivedRecord, type SubscribeOptions } from './bus.ts'
import { deadLetterOf, Poison } from './poison.ts'
import { inConsumerSpan } from './trace.ts'

/** Gives batches to one subscription's handler. */
export interface Delivery {
  /**
   * Whether the batch is done with; false when the signal was aborted first. `endOffset` is the end of the batch's
   * partition when it was read.
   */
  deliver(batch: readonly ReceivedRecord[], endOffset: bigint, signal: AbortSignal): Promise<boolean>
}

const log = logger('slipway.events')
const meters = meter('slipway.events')
const handled = meters.createCounter(metric.eventsHandled)
const handleDuration = meters.createHistogram(metric.eventsHandleDuration)
const lag = meters.createGauge(metric.eventsLag)
const deadLettered = meters.createCounter(metric.eventsDeadLettered)

/** Binds a handler to the way its errors are dealt with; `park` publishes one record and resolves when it is durable. */
export function createDelivery(
  options: Pick<SubscribeOptions, 'group' | 'handle'>,
  park: (record: EventRecord) => Promise<void>,
): Delivery {
  const { group, handle } = options
  const labels = (topic: string | undefined) => ({
    [attribute.messagingDestination]: topic ?? '',
    [attribute.messagingGroup]: group,
  })

  async function attempt(batch: readonly ReceivedRecord[], signal: AbortSignal): Promise<void> {
    const startedMs = performance.now()
    const attributes = labels(batch[0]?.topic)
    await inConsumerSpan(batch, group, () => handle(batch, { signal }))
    handled.add(batch.length, attributes)
    handleDuration.record((performance.now() - startedMs) / 1000, attributes)
  }

  async function parkPoison(record: ReceivedRecord, poison: Poison): Promise<void> {
    const { topic, partition, offset } = record
    await park(deadLetterOf(record, group, poison))
    deadLettered.add(1, labels(topic))
    log.warn('record parked', { topic, partition, offset, group, reason: poison.message })
  }

  /** Tries once and returns the batches that are left to do. */
  async function step(batch: readonly ReceivedRecord[], signal: AbortSignal): Promise<(readonly ReceivedRecord[])[]> {
    try {
      await attempt(batch, signal)
      return []
    } catch (error) {
      if (!(error instanceof Poison)) throw error
      const record = batch.length === 1 ? batch[0] : batch.find((one) => one === error.record)
      if (record === undefined) return batch.map((one) => [one])
      await parkPoison(record, error)
      return batch.length === 1 ? [] : [batch.filter((one) => one !== record)]
    }
  }

  function recordLag(record: ReceivedRecord | undefined, behind: bigint): void {
    if (record === undefined) return
    const { topic, partition } = record
    lag.record(Number(behind), { ...labels(topic), [attribute.messagingPartition]: String(partition) })
  }

  return {
    async deliver(batch, endOffset, signal) {
      recordLag(batch[0], endOffset - (batch[0]?.offset ?? 0n))
      let left: (readonly ReceivedRecord[])[] = batch.length === 0 ? [] : [batch]
      let failures = 0
      while (left.length > 0) {
        if (signal.aborted) return false
        const [first = [], ...rest] = left
        try {
          left = [...(await step(first, signal)), ...rest]
          failures = 0
        } catch (error) {
          if (signal.aborted) return false
          const delayMs = retryDelayMs(failures)
          failures += 1
          const [record] = first
          const at = { topic: record?.topic, partition: record?.partition, offset: record?.offset }
          log.warn('handler failed, its records come again', { ...at, group, failures, delayMs, error })
          await pause(delayMs, signal)
        }
      }
      const last = batch.at(-1)
      recordLag(last, endOffset - (last?.offset ?? 0n) - 1n)
      return true
    },
  }
}

/** The delay after so many failures: doubling, bounded, with jitter. */
export function retryDelayMs(failures: number): number {
  const delayMs = Math.min(limits.maxRetryMs, limits.minRetryMs * 2 ** Math.min(failures, 20))
  return Math.round(delayMs * (0.5 + Math.random() / 2))
}

/** Waits, shorter when the signal is aborted. */
export async function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  await sleep(delayMs, undefined, { signal }).catch(() => undefined)
}

/** Waits for something that ends by itself, but not for long. */
export async function atMost(timeoutMs: number, work: Promise<void>): Promise<void> {
  const enough = new AbortController()
  await Promise.race([work, pause(timeoutMs, enough.signal)]).finally(() => enough.abort())
}
