/**
 * The queue of one model version, and the batches that leave it.
 *
 * 1. Work conserving: an executor that falls idle takes what waits, up to the batch limit. While one is idle nothing waits
 *    longer than the turn of the event loop in which it arrived, so that what arrived together runs together.
 * 2. A batch holds requests of one group in the order in which they arrived; the group whose first request has waited
 *    longest goes first.
 * 3. A request whose caller is gone, or whose deadline has passed or will have before the batch is done, never reaches
 *    an executor.
 * 4. The queue is bounded in rows and in predicted wait; what does not fit is refused at once, with the time after which
 *    to try again.
 * 5. When a batch fails its halves are tried again, down to the request that fails alone; when its executor dies each of
 *    its requests is tried alone, once.
 * 6. A batch runs only on threads taken from the budget. A busy executor is handed a second batch only when it is full.
 */
import type { Failure } from '@slipway/rpc'
import type { Batch, BatchResult, Executor } from './executors/executor.ts'
import { LatencyModel } from './latency-model.ts'
import { refusal } from './refusals.ts'
import type { WorkCounts } from './servable.ts'
import type { ThreadBudget } from './thread-budget.ts'
import { type Group, type Work, WorkQueue } from './work-queue.ts'

/** Why a batch left when it did: an executor was idle or fell idle, a full batch was there, a failed one is tried again. */
export type DispatchReason = 'idle' | 'next' | 'full' | 'retry'

/** Bounds of one version's queue and batches. */
export interface BatchLimits {
  readonly maxBatchRows: number
  readonly maxBatchBytes: number
  readonly maxQueueRows: number
  readonly maxQueueWaitMs: number
}

/** A batch of requests, and how it left. */
export interface WorkBatch extends Batch<Work> {
  readonly group: Group
  /** By `performance.now()`. */
  readonly dispatchedMs: number
  readonly reason: DispatchReason
}

/** What a batcher needs from around it. */
export interface BatcherOptions {
  readonly model: string
  readonly version: string
  readonly limits: BatchLimits
  readonly budget: ThreadBudget
  readonly threadsPerRun: number
  /** Answers the members of a batch; false, and none is answered, when the outputs have other rows than the inputs. */
  readonly answer: (batch: WorkBatch, result: BatchResult) => boolean
}

interface Retry {
  readonly group: Group
  readonly members: readonly Work[]
}

/** See the top of this file. */
export class Batcher {
  readonly #options: BatcherOptions
  #latency = new LatencyModel()
  readonly #executors: Executor[] = []
  readonly #queue = new WorkQueue()
  readonly #retries: Retry[] = []
  readonly #counts = { batches: 0, rows: 0, expired: 0, cancelled: 0, shed: 0 }
  #running = 0
  #runningRows = 0
  #isPlanned = false
  #takesRows = true
  #whenIdle: (() => void)[] = []

  constructor(options: BatcherOptions) {
    this.#options = options
  }

  get counts(): WorkCounts {
    return { ...this.#counts, queued: this.#queue.requests }
  }

  /** Takes a request, or fails it at once. */
  offer(work: Work): void {
    const refused = this.#queue.requests === 0 ? undefined : this.#refuse(work)
    if (refused !== undefined) {
      this.#counts.shed++
      work.fail(refused)
      return
    }
    this.#queue.push(work)
    this.#plan()
  }

  /** An executor that is ready to run batches. */
  attach(executor: Executor): void {
    this.#executors.push(executor)
    this.#plan()
  }

  /** Forgets how long batches take: the first run of a model is no example for the next ones. */
  relearn(): void {
    this.#latency = new LatencyModel()
  }

  /** A batch was answered by its executor. */
  done(executor: Executor, batch: WorkBatch, result: BatchResult): void {
    this.#latency.observe(batch.rows, result.computeMicros / 1000)
    this.#ended(executor, batch)
    this.#dispatch('next')
    if (!this.#options.answer(batch, result)) {
      this.#takesRows = false
      for (const member of batch.members) this.#retries.push({ group: batch.group, members: [member] })
      this.#plan()
    }
    this.#tellIdle()
  }

  /** The runtime refused a batch. */
  failed(executor: Executor, batch: WorkBatch, message: string): void {
    this.#ended(executor, batch)
    const { members, group } = batch
    const [first] = members
    if (first !== undefined && members.length === 1) {
      first.fail(refusal.runFailed(this.#options.model, this.#options.version, message))
    } else {
      const half = members.length >> 1
      this.#retries.push({ group, members: members.slice(0, half) }, { group, members: members.slice(half) })
    }
    this.#dispatch('next')
    this.#tellIdle()
  }

  /** An executor is gone, and with it the batches that were under way. */
  died(executor: Executor, batches: readonly WorkBatch[]): void {
    const index = this.#executors.indexOf(executor)
    if (index >= 0) this.#executors.splice(index, 1)
    if (batches.length > 0) this.#options.budget.give(this.#options.threadsPerRun)
    for (const { members, group, rows } of batches) {
      this.#running--
      this.#runningRows -= rows
      for (const member of members) {
        if (members.length > 1) this.#retries.push({ group, members: [member] })
        else member.fail(refusal.executorDied(this.#options.model, this.#options.version))
      }
    }
    this.#plan()
    this.#tellIdle()
  }

  /** Fails everything that waits. */
  failAll(failure: () => Failure): void {
    const waiting = [...this.#retries.splice(0).flatMap(({ members }) => members), ...this.#queue.takeAll()]
    for (const work of waiting) work.fail(failure())
    this.#tellIdle()
  }

  /** Resolves when nothing waits and nothing runs. */
  async idle(): Promise<void> {
    if (this.#isIdle()) return
    await new Promise<void>((resolve) => this.#whenIdle.push(resolve))
  }

  #refuse(work: Work): Failure | undefined {
    const { limits, model } = this.#options
    const waitMs = this.#expectedWaitMs()
    if (this.#queue.rows + work.rows > limits.maxQueueRows) {
      return refusal.queueFull(model, `${this.#queue.rows} rows wait`, waitMs)
    }
    if (waitMs > limits.maxQueueWaitMs) return refusal.queueFull(model, `the wait is ${Math.round(waitMs)} ms`, waitMs)
    if (work.deadlineMs === Number.POSITIVE_INFINITY) return undefined
    if (waitMs + this.#latency.predict(work.rows) <= work.deadlineMs - Date.now()) return undefined
    return refusal.queueFull(model, `the wait of ${Math.round(waitMs)} ms outlasts the deadline`, waitMs)
  }

  /** How long a request that arrives now waits before its batch begins. */
  #expectedWaitMs(): number {
    const { maxBatchRows } = this.#options.limits
    const full = Math.floor(this.#queue.rows / maxBatchRows)
    const rest = this.#queue.rows % maxBatchRows
    const queued = full * this.#latency.predict(maxBatchRows) + (rest > 0 ? this.#latency.predict(rest) : 0)
    const running = this.#running > 0 ? this.#latency.predict(this.#runningRows) : 0
    return (queued + running) / Math.max(1, this.#executors.length)
  }

  #plan(): void {
    if (this.#isPlanned) return
    this.#isPlanned = true
    setImmediate(this.#whenPlanned)
  }

  readonly #whenPlanned = (): void => {
    this.#isPlanned = false
    this.#dispatch('idle')
  }

  readonly #whenBudget = (): void => this.#dispatch('next')

  #dispatch(reason: DispatchReason): void {
    const { budget, threadsPerRun } = this.#options
    while (this.#queue.requests > 0 || this.#retries.length > 0) {
      const executor = this.#freeExecutor()
      if (executor === undefined) return
      const wasIdle = executor.running === 0
      if (wasIdle && !budget.take(threadsPerRun, this.#whenBudget)) return
      const batch = this.#nextBatch(wasIdle ? reason : 'full')
      if (batch === undefined) {
        if (wasIdle) budget.give(threadsPerRun)
        break
      }
      this.#running++
      this.#runningRows += batch.rows
      this.#counts.batches++
      this.#counts.rows += batch.rows
      executor.run(batch)
    }
    this.#tellIdle()
  }

  #freeExecutor(): Executor | undefined {
    const isFull = this.#queue.rows >= this.#options.limits.maxBatchRows
    let spare: Executor | undefined
    for (const executor of this.#executors) {
      if (executor.running === 0) return executor
      if (isFull && executor.running < executor.slots) spare ??= executor
    }
    return spare
  }

  #nextBatch(reason: DispatchReason): WorkBatch | undefined {
    const { maxBatchRows, maxBatchBytes } = this.#options.limits
    const limits = { maxRows: this.#takesRows ? maxBatchRows : 0, maxBytes: maxBatchBytes }
    const nowMs = Date.now()
    while (this.#queue.requests > 0 || this.#retries.length > 0) {
      const retry = this.#retries.shift()
      const members = retry
        ? retry.members.filter((work) => this.#isWanted(work, 0, nowMs))
        : this.#queue.take(limits, (work, rows) => this.#isWanted(work, rows, nowMs))
      const group = members[0]?.group
      if (group === undefined) continue
      let rows = 0
      for (const member of members) rows += member.rows
      return { group, members, rows, dispatchedMs: performance.now(), reason: retry ? 'retry' : reason }
    }
    return undefined
  }

  /** Whether somebody still waits for the work and can have it in time; fails it otherwise. */
  #isWanted(work: Work, batchRows: number, nowMs: number): boolean {
    if (work.isCancelled) {
      this.#counts.cancelled++
      work.fail(refusal.cancelled())
      return false
    }
    if (work.deadlineMs === Number.POSITIVE_INFINITY) return true
    const remainingMs = work.deadlineMs - nowMs
    if (remainingMs > 0 && remainingMs > this.#latency.predict(batchRows)) return true
    if (remainingMs > 0) this.#latency.doubt()
    this.#counts.expired++
    work.fail(refusal.deadline(this.#options.model))
    return false
  }

  #ended(executor: Executor, batch: WorkBatch): void {
    this.#running--
    this.#runningRows -= batch.rows
    if (executor.running === 0) this.#options.budget.give(this.#options.threadsPerRun)
  }

  #isIdle(): boolean {
    return this.#queue.requests === 0 && this.#retries.length === 0 && this.#running === 0
  }

  #tellIdle(): void {
    if (this.#whenIdle.length === 0 || !this.#isIdle()) return
    for (const tell of this.#whenIdle.splice(0)) tell()
  }
}
