/**
 * Attributions of logged predictions: how much each feature moved the answer, asked of inference after the answer left.
 *
 * 1. Whoever hands a prediction in hears of it exactly once, with attributions or without, and within `timeoutMs`: what is
 *    to be logged is logged, explained or not.
 * 2. At most `maxInFlight` calls are under way, at most `maxWaiting` predictions and `maxWaitingBytes` of them wait; what
 *    comes on top is logged at once without attributions, and counted.
 * 3. Nothing here delays an answer: calls have no deadline and no trace of a request, and inference does them last.
 */
import type { Logger } from '@slipway/telemetry'
import { attribute, meter, metric } from '@slipway/telemetry'

/** What moved one prediction. */
export interface Attribution {
  /** One a feature, in the order of the version's bindings. */
  readonly values: readonly number[]
  readonly baseValue: number
}

/** A prediction to be explained, or the rows of one request. */
export interface Explainable {
  /** Bytes that it holds while it waits. */
  readonly sizeBytes: number
  /** Asks inference; one attribution a row. */
  ask(deadlineMs: number): Promise<readonly Attribution[]>
  /** Hears what came of it; undefined where nothing came. */
  done(attributions: readonly Attribution[] | undefined): void
}

/** The bounds of what waits. */
export interface AttributionLimits {
  /** For waiting and asking together. */
  readonly timeoutMs: number
  readonly maxInFlight: number
  readonly maxWaiting: number
  readonly maxWaitingBytes: number
}

interface Entry {
  readonly explainable: Explainable
  readonly deadlineMs: number
  isDone: boolean
}

const WARNING_MS = 10_000
const counts = meter('slipway.traffic-router').createCounter(metric.routerAttributions)

/** See the top of this file. */
export class Attributions {
  readonly #limits: AttributionLimits
  readonly #log: Pick<Logger, 'warn'>
  /** In the order of their deadlines, which is that of their arrival. */
  readonly #waiting: Entry[] = []
  readonly #asked = new Set<Entry>()
  #waitingBytes = 0
  #timer: NodeJS.Timeout | undefined
  #isClosed = false
  #unexplained = 0
  #warnedMs = 0

  constructor(limits: AttributionLimits, log: Pick<Logger, 'warn'>) {
    this.#limits = limits
    this.#log = log
  }

  /** Predictions that were chosen and not explained since the start. */
  get unexplainedCount(): number {
    return this.#unexplained
  }

  /** Has a prediction explained. */
  explain(explainable: Explainable): void {
    const { timeoutMs, maxWaiting, maxWaitingBytes } = this.#limits
    const entry: Entry = { explainable, deadlineMs: Date.now() + timeoutMs, isDone: false }
    const isFull = this.#waiting.length >= maxWaiting || this.#waitingBytes + explainable.sizeBytes > maxWaitingBytes
    if (this.#isClosed || isFull) {
      this.#finish(entry, undefined, this.#isClosed ? 'stopping' : 'dropped')
      return
    }
    this.#waiting.push(entry)
    this.#waitingBytes += explainable.sizeBytes
    this.#next()
  }

  /** Gives up what waits and what is asked: all of it is heard of before this returns. */
  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    for (const entry of [...this.#waiting.splice(0), ...this.#asked]) this.#finish(entry, undefined, 'stopping')
    this.#waitingBytes = 0
  }

  #next(): void {
    while (this.#asked.size < this.#limits.maxInFlight) {
      const entry = this.#take()
      if (entry === undefined) break
      this.#asked.add(entry)
      void this.#ask(entry)
    }
    this.#expireLater()
  }

  async #ask(entry: Entry): Promise<void> {
    try {
      this.#finish(entry, await entry.explainable.ask(entry.deadlineMs), 'explained')
    } catch (error) {
      this.#finish(entry, undefined, 'failed', error)
    }
    this.#asked.delete(entry)
    if (!this.#isClosed) this.#next()
  }

  #take(): Entry | undefined {
    const entry = this.#waiting.shift()
    if (entry !== undefined) this.#waitingBytes -= entry.explainable.sizeBytes
    return entry
  }

  /** Has what waits too long logged as it is. */
  #expireLater(): void {
    clearTimeout(this.#timer)
    const first = this.#waiting[0]
    if (first === undefined || this.#isClosed) return
    const delayMs = Math.max(1, first.deadlineMs - Date.now())
    this.#timer = setTimeout(() => {
      const now = Date.now()
      while ((this.#waiting[0]?.deadlineMs ?? Number.POSITIVE_INFINITY) <= now) {
        const entry = this.#take()
        if (entry !== undefined) this.#finish(entry, undefined, 'expired')
      }
      this.#expireLater()
    }, delayMs).unref()
  }

  #finish(entry: Entry, attributions: readonly Attribution[] | undefined, outcome: string, error?: unknown): void {
    if (entry.isDone) return
    entry.isDone = true
    entry.explainable.done(attributions)
    counts.add(1, { [attribute.outcome]: outcome })
    if (attributions !== undefined) return
    this.#unexplained++
    const now = Date.now()
    if (now - this.#warnedMs < WARNING_MS || outcome === 'stopping') return
    this.#warnedMs = now
    this.#log.warn('predictions are logged without attributions', { outcome, unexplained: this.#unexplained, error })
  }
}
