/**
 * Logs of predictions and requests, made after the answer left.
 *
 * 1. Nothing here delays a request: records are collected, encoded in a later turn of the event loop and offered to a
 *    producer that never waits.
 * 2. At most `MAX_COLLECTED` wait to be encoded; what comes on top is dropped and counted.
 */
import type { EventRecord } from '@slipway/events'
import { attribute, logger, meter, metric } from '@slipway/telemetry'
import {
  type AnsweredPrediction,
  type AnsweredRequest,
  predictionRecord,
  requestRecord,
  rowRecords,
} from './prediction-record.ts'

/** Most answers that wait to be encoded. */
export const MAX_COLLECTED = 10_000
const DROP_WARNING_MS = 10_000

const log = logger('slipway.traffic-router')
const records = meter('slipway.traffic-router').createCounter(metric.routerLogRecords)

/** Collects what was answered and offers it to the bus. */
export class PredictionLog {
  readonly #offer: (record: EventRecord) => boolean
  readonly #collected: (() => readonly EventRecord[])[] = []
  #isPlanned = false
  #dropped = 0
  #warnedMs = 0

  /** `offer` takes a record or says that it has no room; it never waits. */
  constructor(offer: (record: EventRecord) => boolean) {
    this.#offer = offer
  }

  /** Records that were dropped since the start. */
  get droppedCount(): number {
    return this.#dropped
  }

  /** Logs a prediction. */
  prediction(answered: AnsweredPrediction): void {
    this.#collect(() => [predictionRecord(answered)])
  }

  /**
   * Logs the rows of a request in the Open Inference Protocol as predictions, if its version binds features to tensors; a
   * request of several rows as `{prediction id}:{row}`.
   */
  rows(answered: AnsweredRequest): void {
    const { planned } = answered.variant
    if ('plan' in planned) this.#collect(() => rowRecords(answered, planned.plan))
  }

  /** Logs a request. */
  request(answered: AnsweredRequest): void {
    this.#collect(() => [requestRecord(answered)])
  }

  #collect(encode: () => readonly EventRecord[]): void {
    if (this.#collected.length >= MAX_COLLECTED) {
      this.#drop()
      return
    }
    this.#collected.push(encode)
    if (this.#isPlanned) return
    this.#isPlanned = true
    setImmediate(() => this.flush())
  }

  /** Encodes and offers what was collected. */
  flush(): void {
    this.#isPlanned = false
    for (const encode of this.#collected.splice(0)) {
      try {
        for (const each of encode()) {
          if (this.#offer(each)) records.add(1, { [attribute.delivery]: 'offered' })
          else this.#drop()
        }
      } catch (error) {
        this.#drop()
        log.error('a prediction cannot be logged', { error })
      }
    }
  }

  #drop(): void {
    this.#dropped++
    records.add(1, { [attribute.delivery]: 'dropped' })
    const now = Date.now()
    if (now - this.#warnedMs < DROP_WARNING_MS) return
    this.#warnedMs = now
    log.warn('predictions are answered but not logged', { dropped: this.#dropped })
  }
}
