/** What was learned of each group's batches; a group that is new is taken to be like the others. Pure. */
import { BatchBound, type BoundOptions, rowsThatPay } from './batch-bound.ts'
import { LatencyModel } from './latency-model.ts'
import type { Group } from './work-queue.ts'

interface Learned {
  readonly latency: LatencyModel
  readonly bound: BatchBound
}

/** How a batch came through its executor. */
export interface Passage {
  /** From when it was handed over, or from the answer of the batch that it waited for, to its own answer. */
  readonly sinceMs: number
  /** True when it waited for another one. */
  readonly isBehind: boolean
}

const OVERHEAD_WEIGHT = 0.05

/** See the top of this file. */
export class GroupLatency {
  readonly #bound: BoundOptions
  #all = new LatencyModel()
  #groups = new WeakMap<Group, Learned>()
  #overheadMs = 0
  #gapMs = 0

  constructor(bound: BoundOptions) {
    this.#bound = bound
  }

  /** What a batch takes beyond its run: the way to its executor and back. */
  get overheadMs(): number {
    return this.#overheadMs
  }

  /** What lies between the runs of an executor that always has work. */
  get gapMs(): number {
    return this.#gapMs
  }

  /** A batch ran for so long, and came through its executor like this. */
  observe(group: Group, rows: number, millis: number, { sinceMs, isBehind }: Passage): void {
    const beyondMs = Math.max(0, sinceMs - millis)
    this.#gapMs += (beyondMs - this.#gapMs) * OVERHEAD_WEIGHT
    if (!isBehind) this.#overheadMs += (beyondMs - this.#overheadMs) * OVERHEAD_WEIGHT
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
    this.#gapMs = 0
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
