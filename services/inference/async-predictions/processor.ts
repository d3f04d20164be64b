/**
 * Answers requests that come over the bus.
 *
 * 1. A request is done with when its result is durable on the bus; a server that dies before is followed by one that
 *    answers it again.
 * 2. A request id has one result. Who takes up a partition looks first at what was published before; who finds a result
 *    there does not run the request again. Should two servers still publish (one that was thought dead goes on), the first
 *    result in the topic counts for every reader.
 * 3. A request whose time is over never runs: its result says that it expired.
 * 4. A full queue and a version on its way are waited for, up to a bound; every other failure is the request's result.
 * 5. A record that is no request, or has no usable id, is parked in the dead-letter topic.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt'
import { type Event, type EventBus, limits, Poison, publishTo, topics } from '@slipway/events'
import type {
  AsyncPredictionAnsweredSchema,
  AsyncPredictionRequested,
  AsyncPredictionRequestedSchema,
} from '@slipway/proto/slipway/events/v1/async_prediction'
import { Code, Failure } from '@slipway/rpc'
import type { Inference } from '../infer.ts'
import { answerRequest } from './answer-request.ts'
import { withDefaults } from './request-parameters.ts'
import type { ResultIndex } from './result-index.ts'

/** Time that a request has which names no end, from when it was asked. */
export const DEFAULT_EXPIRY_MS = 3_600_000
/** Longest id of a request. */
export const MAX_REQUEST_ID_LENGTH = 128
/** Room that a result takes besides the answer. */
export const RESULT_OVERHEAD_BYTES = 16 * 1024

const PRIORITY = 6
const FIRST_DELAY_MS = 50
const MAX_DELAY_MS = 2000
const MAX_REMEMBERED = 100_000
const SOURCE = '/slipway/inference'

type Requested = Event<typeof AsyncPredictionRequestedSchema>
type Result = MessageInitShape<typeof AsyncPredictionAnsweredSchema>

/** What a processor needs from around it. */
export interface ProcessorOptions {
  readonly bus: EventBus
  readonly index: Pick<ResultIndex, 'answered' | 'caughtUp'>
  readonly inference: Inference
  /** How long a full queue or a version on its way is waited for. */
  readonly retryMs: number
  /** Why a webhook is not posted to; undefined when it is. */
  readonly refuseWebhook: (url: string) => Failure | undefined
}

/** See the top of this file. */
export class Processor {
  readonly #options: ProcessorOptions
  /** Offset of the last record of each partition that was handled here. */
  readonly #handled = new Map<number, bigint>()
  /** Ids that were answered here; the index has them a little later. */
  readonly #answered = new Set<string>()

  constructor(options: ProcessorOptions) {
    this.#options = options
  }

  /** Answers a batch of one partition; resolved means that all results are durable. */
  async handle(events: readonly Requested[], signal: AbortSignal): Promise<void> {
    for (const { message, record } of events) {
      const { length } = message.requestId
      if (length === 0 || length > MAX_REQUEST_ID_LENGTH)
        throw new Poison(`request_id has ${length} characters, not 1 to ${MAX_REQUEST_ID_LENGTH}`, { record })
    }
    const fresh = await this.#unanswered(events)
    const results = await Promise.all(fresh.map((event) => this.#result(event, signal)))
    signal.throwIfAborted()
    // From here on to the end, whatever becomes of the partition: who takes it over must find these results, or none.
    await publishTo(this.#options.bus, topics.asyncResults, results, { source: SOURCE })
    for (const { message } of fresh) this.#remember(message.requestId)
    const last = events.at(-1)?.record
    if (last !== undefined) this.#handled.set(last.partition, last.offset)
  }

  async #unanswered(events: readonly Requested[]): Promise<readonly Requested[]> {
    const { index } = this.#options
    const first = events[0]?.record
    // Whoever had the partition before, this server in an earlier life included, may have published results.
    if (first !== undefined && this.#handled.get(first.partition) !== first.offset - 1n) await index.caughtUp()
    const answered = await index.answered(events.map(({ message }) => message.requestId))
    const seen = new Set<string>()
    return events.filter(({ message: { requestId } }) => {
      if (seen.has(requestId) || answered.has(requestId) || this.#answered.has(requestId)) return false
      seen.add(requestId)
      return true
    })
  }

  #remember(requestId: string): void {
    this.#answered.add(requestId)
    const [oldest] = this.#answered
    if (this.#answered.size > MAX_REMEMBERED && oldest !== undefined) this.#answered.delete(oldest)
  }

  async #result(event: Requested, signal: AbortSignal): Promise<Result> {
    const { message } = event
    const { requestId, webhookUrl } = message
    const requestTime = message.requestTime ?? timestampFromMs(Number(event.record.timeMicros / 1000n))
    const result = { requestId, requestTime }
    const refused = webhookUrl === '' ? undefined : this.#options.refuseWebhook(webhookUrl)
    if (refused !== undefined) return { ...result, ...failed(refused) }
    try {
      const response = await this.#answer(message, event, signal)
      if (response.length > limits.maxRecordBytes - RESULT_OVERHEAD_BYTES) throw answerTooLarge(response.length)
      return { ...result, webhookUrl, response, completeTime: timestampFromMs(Date.now()) }
    } catch (error) {
      signal.throwIfAborted()
      return { ...result, webhookUrl, ...failed(Failure.from(error)) }
    }
  }

  async #answer(message: AsyncPredictionRequested, { record }: Requested, signal: AbortSignal): Promise<Uint8Array> {
    const { inference, retryMs } = this.#options
    const askedMs =
      message.requestTime === undefined ? Number(record.timeMicros / 1000n) : timestampMs(message.requestTime)
    const deadlineMs = message.expireTime === undefined ? askedMs + DEFAULT_EXPIRY_MS : timestampMs(message.expireTime)
    const request = withDefaults(message.request, { priority: PRIORITY, traceParent: record.headers.traceparent })
    const retryUntilMs = Math.min(deadlineMs, Date.now() + retryMs)
    for (let delayMs = FIRST_DELAY_MS; ; delayMs = Math.min(2 * delayMs, MAX_DELAY_MS)) {
      if (Date.now() >= deadlineMs) throw expired()
      try {
        return await answerRequest(inference, request, { deadlineMs, signal })
      } catch (error) {
        const failure = Failure.from(error)
        const waitMs = Math.max(delayMs, failure.retryAfterMs ?? 0)
        if (!isPassing(failure) || Date.now() + waitMs >= retryUntilMs) throw failure
        await sleep(waitMs, undefined, { signal })
      }
    }
  }
}

function isPassing({ code }: Failure): boolean {
  return code === Code.RESOURCE_EXHAUSTED || code === Code.UNAVAILABLE
}

function failed({ code, reason, message }: Failure): Result {
  return { code, reason, message, completeTime: timestampFromMs(Date.now()) }
}

function expired(): Failure {
  return new Failure(Code.DEADLINE_EXCEEDED, 'EXPIRED', 'the request expired before it ran')
}

function answerTooLarge(bytes: number): Failure {
  const most = limits.maxRecordBytes - RESULT_OVERHEAD_BYTES
  return new Failure(
    Code.RESOURCE_EXHAUSTED,
    'ANSWER_TOO_LARGE',
    `the answer has ${bytes} bytes, more than the ${most} that go over the bus`,
  )
}
