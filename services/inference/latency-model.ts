/**
 * How long a batch takes: a + b x rows, learned from the batches that ran. Older batches count less and less, so that
 * the model follows a machine that becomes slower or faster. Pure: times are given, none is taken.
 */

/** The two parts of a batch's time. */
export interface RunCost {
  readonly fixedMs: number
  readonly perRowMs: number
}

/** A prediction is good for batches up to so many times the largest one that was seen. */
const EXTRAPOLATION = 4
const FORGET_LARGEST = 0.999

/** See the top of this file. */
export class LatencyModel {
  static readonly #decay = 0.97
  #weight = 0
  #rows = 0
  #millis = 0
  #rowsSquared = 0
  #rowsMillis = 0
  #largestRows = 0
  #cost: RunCost | undefined

  /** True once there is anything to go by. */
  get isKnown(): boolean {
    return this.#weight > 0
  }

  /** A batch of so many rows took so long. */
  observe(rows: number, millis: number): void {
    const decay = LatencyModel.#decay
    this.#weight = this.#weight * decay + 1
    this.#rows = this.#rows * decay + rows
    this.#millis = this.#millis * decay + millis
    this.#rowsSquared = this.#rowsSquared * decay + rows * rows
    this.#rowsMillis = this.#rowsMillis * decay + rows * millis
    this.#largestRows = Math.max(rows, this.#largestRows * FORGET_LARGEST)
    this.#cost = undefined
  }

  /** What it believes, both parts 0 while nothing is known. Neither is ever negative. */
  get cost(): RunCost {
    this.#cost ??= this.#solve()
    return this.#cost
  }

  /**
   * The time that a batch of so many rows will take; 0 while nothing is known. Batches far larger than all that were seen are
   * taken to be as quick as the largest that can be told of: work is refused because of this, and what small
   * batches differ by says little about large ones.
   */
  predict(rows: number): number {
    const { fixedMs, perRowMs } = this.cost
    return fixedMs + perRowMs * Math.min(rows, this.#largestRows * EXTRAPOLATION)
  }

  /** Believes a little less in its figures, so that a server that refuses work because of them finds out when they are wrong. */
  doubt(): void {
    this.#millis *= 0.95
    this.#rowsMillis *= 0.95
    this.#cost = undefined
  }

  #solve(): RunCost {
    if (this.#weight === 0) return { fixedMs: 0, perRowMs: 0 }
    const meanRows = this.#rows / this.#weight
    const meanMillis = this.#millis / this.#weight
    const variance = this.#rowsSquared / this.#weight - meanRows * meanRows
    const covariance = this.#rowsMillis / this.#weight - meanRows * meanMillis
    const slope = variance > 1e-9 ? covariance / variance : 0
    const perRowMs = Math.min(Math.max(slope, 0), meanRows > 0 ? meanMillis / meanRows : 0)
    return { fixedMs: Math.max(0, meanMillis - perRowMs * meanRows), perRowMs }
  }
}
