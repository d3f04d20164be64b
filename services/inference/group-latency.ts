/** What was learned of each group's batches; a group that is new is taken to be like the others. Pure. */
import { BatchBound, type BoundOptions, rowsThatPay } from './batch-bound.ts'
import { LatencyModel } from './latency-model.ts'
import type { Group } from './work-queue.ts'

interface Learned {
  readonly latency: LatencyModel
  readonly bound: BatchBound
}

const OVERHEAD_WEIGHT = 0.05

/** See the top of this file. */
export class GroupLatency {
  readonly #bound: BoundOptions
  #all = new LatencyModel()
  #groups = new WeakMap<Group, Learned>()
  #overheadMs = 0

  constructor(bound: BoundOptions) {
    this.#bound = bound
  }

  /** What a batch takes beyond its run: the way to its executor and back. */
  get overheadMs(): number {
    return this.#overheadMs
  }

  /** A batch ran for so long; with the way there and back, if it did not wait for another one, it took so long. */
  observe(group: Group, rows: number, millis: number, wholeMs?: number): void {
    if (wholeMs !== undefined) this.#overheadMs += (Math.max(0, wholeMs - millis) - this.#overheadMs) * OVERHEAD_WEIGHT
    const learned = this.#of(group)
    this.#all.observe(rows, millis)
    learned.latency.observe(rows, millis)
    learned.bound.observe(rows, millis, learned.latency)
  }

  /** The time that a batch will take; 0 while nothing is known. */
  predict(group: Group, rows: number): number {
    return this.#model(group).predict(rows)
  }

  /** The model of a group. */
  model(group: Group): LatencyModel {
    return this.#model(group)
  }

  /** The most rows of one batch. */
  maxRows(group: Group): number {
    const latency = this.#model(group)
    return Math.min(this.#of(group).bound.rows(latency), rowsThatPay(latency.cost, this.#overheadMs))
  }

  /** See LatencyModel. */
  doubt(group: Group): void {
    this.#model(group).doubt()
  }

  /** Forgets everything. */
  forget(): void {
    this.#all = new LatencyModel()
    this.#groups = new WeakMap()
    this.#overheadMs = 0
  }

  #model(group: Group): LatencyModel {
    const latency = this.#groups.get(group)?.latency
    return latency?.isKnown ? latency : this.#all
  }

  #of(group: Group): Learned {
    let learned = this.#groups.get(group)
    if (learned === undefined) {
      learned = { latency: new LatencyModel(), bound: new BatchBound(this.#bound) }
      this.#groups.set(group, learned)
    }
    return learned
  }
}
