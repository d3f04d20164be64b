/**
 * How many rows a batch may have, so that requests are answered within a latency objective. A request that arrives just after
 * a batch has left waits for that one and then for its own: a run may take RUN_SHARE of the objective, holding
 * back HOLD_SHARE. The latency model says how many rows that is on average. What it does not see, the slow runs among
 * many, is left to a factor that falls by a tenth with each run that took too long and rises a little with each large one that
 * did not, so that about one in a hundred does (additive increase, multiplicative decrease). Pure.
 */
import type { LatencyModel, RunCost } from './latency-model.ts'

/** Share of the objective that one run may take. */
export const RUN_SHARE = 0.4

/** Share of the objective that a request may be held back for. */
export const HOLD_SHARE = 0.2

const DECREASE = 0.9
const INCREASE = 0.001
const MIN_FACTOR = 0.1
/** A run teaches that more rows would do only if it had that share of what it could have; full of large requests it has more than half. */
const LARGE = 0.5

/** A batch is large enough when what it takes whatever its rows is no larger a share of its time. */
const FIXED_SHARE = 0.05
const MIN_ROWS_THAT_PAY = 16

/** The rows beyond which a larger batch takes longer and gains next to nothing: a row in it costs hardly less. */
export function rowsThatPay({ fixedMs, perRowMs }: RunCost, overheadMs: number): number {
  if (perRowMs <= 0) return Number.POSITIVE_INFINITY
  return Math.max(MIN_ROWS_THAT_PAY, Math.ceil((fixedMs + overheadMs) / (FIXED_SHARE * perRowMs)))
}

/** What bounds batches. */
export interface BoundOptions {
  readonly maxRows: number
  /** Time from arrival to answer that 99 of 100 requests should meet; Infinity for none. */
  readonly objectiveMs: number
}

/** The bound of one group's batches. */
export class BatchBound {
  readonly #options: BoundOptions
  #factor = 1

  constructor(options: BoundOptions) {
    this.#options = options
  }

  /** The most rows that a batch may have now, at least 1. */
  rows(latency: LatencyModel): number {
    const { maxRows, objectiveMs } = this.#options
    if (objectiveMs === Number.POSITIVE_INFINITY || !latency.isKnown) return maxRows
    const { fixedMs, perRowMs } = latency.cost
    const room = objectiveMs * RUN_SHARE - fixedMs
    const rows = perRowMs > 0 ? room / perRowMs : room > 0 ? maxRows : 1
    return Math.max(1, Math.min(maxRows, Math.floor(rows * this.#factor)))
  }

  /** A batch of so many rows took so long. */
  observe(rows: number, millis: number, latency: LatencyModel): void {
    const { objectiveMs } = this.#options
    if (objectiveMs === Number.POSITIVE_INFINITY) return
    if (millis > objectiveMs * RUN_SHARE) {
      // One row that takes too long is not made faster by fewer of them.
      if (rows > 1) this.#factor = Math.max(MIN_FACTOR, this.#factor * DECREASE)
    } else if (rows >= LARGE * this.rows(latency)) {
      this.#factor = Math.min(1, this.#factor + INCREASE)
    }
  }
}
