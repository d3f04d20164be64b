/**
 * The log of all jobs on the bus, and this replica's knowledge of it.
 *
 * 1. Every replica reads the whole log in a group of its own and applies it to its own store.
 * 2. What a caller is answered was published, and applied here: it survives the loss of any process.
 */
import { randomUUID } from 'node:crypto'
import type { MessageInitShape } from '@bufbuild/protobuf'
import { consume, type EventBus, publishTo, type Subscription, topics } from '@slipway/events'
import type { BatchJobChangedSchema } from '@slipway/proto/slipway/events/v1/batch_job'
import { Code, Failure } from '@slipway/rpc'
import type { Logger } from '@slipway/telemetry'
import type { Outcome } from './job-state.ts'
import type { JobStore } from './job-store.ts'
import { subscribed } from './subscribed.ts'

const APPLY_LIMIT_MS = 30_000

type Change = NonNullable<MessageInitShape<typeof BatchJobChangedSchema>['change']>

/** What a log needs. */
export interface JobLogOptions {
  readonly bus: EventBus
  readonly store: JobStore
  readonly log: Logger
}

/** See the top of this file. */
export class JobLog {
  readonly #options: JobLogOptions
  readonly #stopping = new AbortController()
  readonly #waiting = new Map<string, (outcome: Outcome) => void>()
  readonly #listeners = new Set<(job: string) => void>()
  readonly #subscription: Promise<Subscription | undefined>

  constructor(options: JobLogOptions) {
    const { bus, store, log } = options
    this.#options = options
    const group = `slipway-batch-jobs-${store.replica}`
    this.#subscription = subscribed(this.#stopping.signal, log, () =>
      consume(bus, topics.batchJobs, {
        group,
        handle: async (events) => {
          for (const { message, record } of events) {
            const outcome = await store.apply(message, record.offset, record.timeMicros)
            if (outcome !== undefined) this.#waiting.get(message.eventId)?.(outcome)
            for (const listener of this.#listeners) listener(message.job)
          }
        },
      }),
    )
  }

  /** Publishes a change and waits until it is applied here; throws the refusal that it met, or why `signal` was aborted. */
  async publish(job: string, change: Change, signal?: AbortSignal): Promise<void> {
    const eventId = randomUUID()
    const applied = Promise.withResolvers<Outcome>()
    this.#waiting.set(eventId, applied.resolve)
    const timer = setTimeout(() => applied.reject(notApplied()), APPLY_LIMIT_MS)
    const ended = signal === undefined ? this.#stopping.signal : AbortSignal.any([this.#stopping.signal, signal])
    const onStop = (): void => applied.reject(notApplied())
    ended.addEventListener('abort', onStop, { once: true })
    try {
      applied.promise.catch(() => undefined)
      await publishTo(this.#options.bus, topics.batchJobs, [{ job, eventId, change }])
      const { refusal } = await applied.promise
      if (refusal !== undefined) throw refusal
    } finally {
      clearTimeout(timer)
      ended.removeEventListener('abort', onStop)
      this.#waiting.delete(eventId)
    }
  }

  /** Waits until everything that was published before the call is applied here. */
  async caughtUp(): Promise<void> {
    const subscription = await this.#subscription
    if (subscription === undefined) throw notApplied()
    await subscription.caughtUp()
  }

  /** Hears the name of each job that an event was about; returns how to stop hearing. */
  onChange(listener: (job: string) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Reads no further. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await (await this.#subscription)?.stop()
  }
}

function notApplied(): Failure {
  const message = 'the event bus did not take the change in time; it may yet happen'
  return new Failure(Code.UNAVAILABLE, 'BATCH_LOG_AWAY', message, { retryAfterMs: 1000 })
}
