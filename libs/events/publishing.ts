import { Code, Failure } from '@slipway/rpc'
import { attribute, meter, metric } from '@slipway/telemetry'
import { type EventRecord, limits, recordBytes } from './bus.ts'

const published = meter('slipway.events').createCounter(metric.eventsPublished)

/** Checks the bounds of a call to `publish` and returns its size; `pendingBytes` wait already. */
export function checkRecords(records: readonly EventRecord[], pendingBytes: number): number {
  let total = 0
  for (const record of records) {
    const bytes = recordBytes(record)
    if (bytes > limits.maxRecordBytes) {
      throw new Failure(
        Code.INVALID_ARGUMENT,
        'EVENT_TOO_LARGE',
        `a record for ${record.topic} has ${bytes} bytes, at most ${limits.maxRecordBytes} are taken`,
        { metadata: { topic: record.topic, bytes: String(bytes) } },
      )
    }
    total += bytes
  }
  if (pendingBytes + total > limits.maxPendingBytes) {
    throw new Failure(Code.RESOURCE_EXHAUSTED, 'EVENT_BACKLOG_FULL', 'too much waits to be published', {
      retryAfterMs: 1000,
    })
  }
  return total
}

/** Waits for `done`, or for the signal if that comes first; `done` goes on by itself then. */
export async function abortable<T>(done: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await done
  let abort: () => void = () => undefined
  const aborted = new Promise<never>((_resolve, reject) => {
    abort = () => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
  })
  try {
    return await Promise.race([done, aborted])
  } finally {
    signal.removeEventListener('abort', abort)
    done.catch(() => undefined)
  }
}

/** Counts records that the bus acknowledged. */
export function countPublished(records: readonly EventRecord[]): void {
  const byTopic = Map.groupBy(records, (record) => record.topic)
  for (const [topic, some] of byTopic) published.add(some.length, { [attribute.messagingDestination]: topic })
}
