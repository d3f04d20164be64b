/**
 * Reads of the feature store, joined: instances that want the same features at the same time go in one call.
 *
 * 1. A read that is asked for while a call can start leaves with all others of the same turn of the event loop; the rest
 *    gather until a call ends, so that calls grow with load and an idle router adds no delay.
 * 2. At most `maxCalls` calls are under way, a call has at most `MAX_ROWS_A_CALL` rows, and at most `maxWaiting` reads wait;
 *    one more is RESOURCE_EXHAUSTED.
 * 3. One instance cannot fail another: a joined call that the store refuses is made again for each read alone.
 * 4. A read that belongs to a recorded trace goes alone, so that the store's span is in that trace.
 */
import { Code, Failure } from '@slipway/rpc'
import { decodeVectors, encodeOnlineRequest, type FeatureVector } from './features-message.ts'
import type { Plan } from './plan.ts'
import { insideTrace, type RequestTrace } from './trace.ts'

/** What one instance wants. */
export interface FeatureRead {
  readonly featureService: string
  readonly plan: Plan
  /** The fields of a `slipway.features.v1.EntityRow`. */
  readonly entityRow: Buffer
  /** When ages are judged, microseconds since the epoch; undefined: now. */
  readonly asOfMicros: number | undefined
  readonly deadlineMs: number
  /** The trace that the read belongs to, when it is recorded. */
  readonly trace: RequestTrace | undefined
}

/** What reading needs. */
export interface FeatureReaderOptions {
  /** Calls GetOnlineFeatures in bytes. */
  call(request: Buffer, deadlineMs: number): Promise<Buffer>
  /** Most calls under way. */
  readonly maxCalls: number
  /** Most reads that wait for a call. */
  readonly maxWaiting: number
}

/** Most rows of one call. */
export const MAX_ROWS_A_CALL = 256

interface Waiting {
  readonly read: FeatureRead
  readonly resolve: (vector: FeatureVector) => void
  readonly reject: (failure: Failure) => void
}

/** Reads features of instances. */
export class FeatureReader {
  readonly #options: FeatureReaderOptions
  readonly #groups = new Map<string, Waiting[]>()
  #waiting = 0
  #calls = 0
  #alone = 0
  #isPlanned = false

  constructor(options: FeatureReaderOptions) {
    this.#options = options
  }

  /** The features of one instance, in the order of the plan's stored features. */
  async read(read: FeatureRead): Promise<FeatureVector> {
    if (this.#waiting >= this.#options.maxWaiting) {
      const message = `${this.#waiting} reads wait for the feature store already`
      throw new Failure(Code.RESOURCE_EXHAUSTED, 'TOO_MANY_FEATURE_READS', message, { retryAfterMs: 50 })
    }
    return await new Promise((resolve, reject) => {
      const key = this.#keyOf(read)
      const group = this.#groups.get(key)
      if (group === undefined) this.#groups.set(key, [{ read, resolve, reject }])
      else group.push({ read, resolve, reject })
      this.#waiting++
      this.#plan()
    })
  }

  #keyOf(read: FeatureRead): string {
    const key = `${read.featureService} ${read.plan.digest} ${read.asOfMicros ?? ''}`
    return read.trace === undefined ? key : `${key} ${this.#alone++}`
  }

  #plan(): void {
    if (this.#isPlanned || this.#calls >= this.#options.maxCalls) return
    this.#isPlanned = true
    setImmediate(() => {
      this.#isPlanned = false
      this.#startCalls()
    })
  }

  #startCalls(): void {
    for (const [key, group] of this.#groups) {
      if (this.#calls >= this.#options.maxCalls) return
      const batch = group.splice(0, MAX_ROWS_A_CALL)
      if (group.length === 0) this.#groups.delete(key)
      this.#waiting -= batch.length
      void this.#callFor(batch)
    }
  }

  async #callFor(batch: readonly Waiting[]): Promise<void> {
    this.#calls++
    try {
      await this.#answer(batch)
    } finally {
      this.#calls--
      if (this.#groups.size > 0) this.#plan()
    }
  }

  async #answer(batch: readonly Waiting[]): Promise<void> {
    const first = batch[0]?.read
    if (first === undefined) return
    let deadlineMs = 0
    for (const { read } of batch) deadlineMs = Math.max(deadlineMs, read.deadlineMs)
    try {
      const request = encodeOnlineRequest(
        first,
        batch.map(({ read }) => read.entityRow),
      )
      const response = await insideTrace(first.trace, async () => await this.#options.call(request, deadlineMs))
      const vectors = decodeVectors(response, first.plan, batch.length)
      for (const [index, { resolve, reject }] of batch.entries()) {
        const vector = vectors[index]
        if (vector === undefined)
          reject(new Failure(Code.INTERNAL, 'FEATURES_MISSING', 'the feature store left out a row'))
        else resolve(vector)
      }
    } catch (error) {
      const failure = namedFailure(error)
      if (batch.length > 1 && isRefusal(failure))
        await Promise.all(batch.map(async (each) => await this.#answer([each])))
      else for (const { reject } of batch) reject(failure)
    }
  }
}

/** Whether the store refused what was asked, as opposed to being away or too slow. */
function isRefusal(failure: Failure): boolean {
  return (
    failure.code === Code.INVALID_ARGUMENT ||
    failure.code === Code.NOT_FOUND ||
    failure.code === Code.FAILED_PRECONDITION
  )
}

function namedFailure(error: unknown): Failure {
  const failure = Failure.from(error)
  if (failure.code === Code.INTERNAL) return failure
  const reason = failure.code === Code.UNAVAILABLE ? 'FEATURE_STORE_UNAVAILABLE' : failure.reason
  return new Failure(failure.code, reason, `the feature store says: ${failure.message}`, {
    metadata: failure.metadata,
    violations: failure.violations,
    cause: failure,
    ...(failure.code === Code.UNAVAILABLE ? { retryAfterMs: failure.retryAfterMs ?? 100 } : {}),
  })
}
