/**
 * Takes the requests for one model version and has them run in batches.
 *
 * 1. Work conserving: an executor that falls idle takes what waits, up to the batch's bound. While one is idle nothing waits
 *    longer than the turn of the event loop in which it arrived, so that what arrived together runs together; unless batches
 *    are held back (batch-timing.ts), which an idle server never does by itself, or a crowd is still coming in.
 * 2. A batch holds requests of one group in the order in which they are due: the most urgent first, of equal ones the oldest;
 *    all become more urgent with time (priorities.ts).
 * 3. A request whose caller is gone, or whose deadline has passed or will have before the batch is done, never reaches
 *    the model. Where a batch waits for another one in its executor, it is called back for the sake of such a request.
 * 4. The queue is bounded in rows and in predicted wait; what does not fit is refused at once, with the time after which
 *    to try again. Less urgent requests count for neither.
 * 5. When a batch fails its halves are tried again, down to the request that fails alone; when its executor dies each of
 *    its requests is tried alone, once.
 * 6. A batch runs only on threads taken from the budget. A busy executor is handed a second batch only when it is full and
 *    no other version waits for threads.
 */
import type { Failure } from '@slipway/rpc'
import { BatchFormer, type BatchLimits, type FormedBatch, type Now } from './batch-former.ts'
import type { DispatchReason } from './batch-timing.ts'
import { busyMs, type Seat } from './executor-seat.ts'
import type { Batch, BatchResult, Executor } from './executors/executor.ts'
import { refusal } from './refusals.ts'
import type { WorkCounts } from './servable.ts'
import type { ThreadBudget } from './thread-budget.ts'
import type { Group, Work } from './work-queue.ts'

export type { BatchLimits } from './batch-former.ts'
export type { DispatchReason } from './batch-timing.ts'

/** A batch of requests, and how it left. */
export interface WorkBatch extends Batch<Work> {
  readonly group: Group
  /** By `performance.now()`. */
  readonly dispatchedMs: number
  readonly reason: DispatchReason
  readonly notAfterMs: number
  /** True when it was handed over while another one ran. */
  readonly isBehind: boolean
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
  /** Hears of each request that is not answered, after its caller was told. */
  readonly onFailed?: ((work: Work, failure: Failure) => void) | undefined
}

/** See the top of this file. */
export class Batcher {
  readonly #options: BatcherOptions
  readonly #former: BatchFormer
  readonly #seats: Seat[] = []
  readonly #leaving = new Map<Executor, () => void>()
  readonly #counts = { batches: 0, rows: 0, executedAfterDeadline: 0 }
  #running = 0
  #isPlanned = false
  #isDraining = false
  /** Requests came since it was last asked whether a batch leaves. */
  #isArriving = false
  #holdTimer: NodeJS.Timeout | undefined
  #whenIdle: (() => void)[] = []

  constructor(options: BatcherOptions) {
    this.#options = options
    const { model, limits } = options
    this.#former = new BatchFormer({ model, limits, fail: (work, failure) => this.#fail(work, failure) })
  }

  get counts(): WorkCounts {
    return { ...this.#counts, ...this.#former.counts, queued: this.#former.queued }
  }

  /** Takes a request, or fails it at once. */
  offer(work: Work): void {
    const moment = now()
    this.#isArriving = true
    let allBusyMs = 0
    for (const seat of this.#seats) allBusyMs += busyMs(seat, moment)
    this.#former.offer(work, moment, allBusyMs, this.#seats.length)
    this.#plan()
  }

  /** An executor that is ready to run batches. */
  attach(executor: Executor): void {
    this.#seats.push({ executor, freeAtMs: 0, doneMs: 0 })
    this.#plan()
  }

  /** Hands an executor no more batches; resolves when it has done those that it has, or is gone. */
  async detach(executor: Executor): Promise<void> {
    this.#unseat(executor)
    if (executor.running === 0) return
    await new Promise<void>((resolve) => this.#leaving.set(executor, resolve))
  }

  /** Forgets how long batches take: the first run of a model is no example for the next ones. */
  relearn(): void {
    this.#former.relearn()
  }

  /** A batch was answered by its executor. */
  done(executor: Executor, batch: WorkBatch, result: BatchResult): void {
    const { group, members, rows, dispatchedMs, isBehind, notAfterMs } = batch
    if (result.beganMs !== undefined && result.beganMs > notAfterMs) this.#counts.executedAfterDeadline++
    const nowMs = performance.now()
    const seat = this.#seatOf(executor)
    const sinceMs = nowMs - (isBehind ? (seat?.doneMs ?? nowMs) : dispatchedMs)
    this.#former.observe(group, rows, result.computeMicros / 1000, { sinceMs, isBehind })
    if (seat !== undefined) seat.doneMs = nowMs
    this.#ended(executor)
    this.#dispatch(true)
    if (!this.#options.answer(batch, result)) {
      this.#former.separate()
      for (const member of members) this.#former.retry(group, [member])
      this.#plan()
    }
    this.#tellIdle()
  }

  /** The runtime refused a batch. */
  failed(executor: Executor, { members, group }: WorkBatch, message: string): void {
    this.#ended(executor)
    const [first] = members
    if (first !== undefined && members.length === 1) {
      this.#fail(first, refusal.runFailed(this.#options.model, this.#options.version, message))
    } else {
      const half = members.length >> 1
      this.#former.retry(group, members.slice(0, half))
      this.#former.retry(group, members.slice(half))
    }
    this.#plan()
    this.#tellIdle()
  }

  /** A batch did not run: a deadline in it passed first, or it was called back. */
  skipped(executor: Executor, { group, members, rows }: WorkBatch): void {
    this.#ended(executor)
    this.#counts.batches--
    this.#counts.rows -= rows
    this.#former.retry(group, members)
    this.#dispatch(true)
    this.#tellIdle()
  }

  /** An executor is gone, and with it the batches that it had. */
  died(executor: Executor, batches: readonly WorkBatch[]): void {
    this.#unseat(executor)
    this.#running -= batches.length
    if (batches.length > 0) this.#emptied(executor)
    for (const { members, group } of batches) {
      const [first] = members
      if (first !== undefined && members.length === 1) {
        this.#fail(first, refusal.executorDied(this.#options.model, this.#options.version))
      } else {
        for (const member of members) this.#former.retry(group, [member])
      }
    }
    this.#plan()
    this.#tellIdle()
  }

  /** Fails everything that waits. */
  failAll(failure: () => Failure): void {
    for (const work of this.#former.takeAll()) this.#fail(work, failure())
    this.#tellIdle()
  }

  /** Resolves when nothing waits and nothing runs; from now on no batch is held back. */
  async idle(): Promise<void> {
    this.#isDraining = true
    if (this.#isIdle()) return
    this.#plan()
    await new Promise<void>((resolve) => this.#whenIdle.push(resolve))
  }

  #plan(): void {
    if (this.#isPlanned) return
    this.#isPlanned = true
    setImmediate(this.#whenPlanned)
  }

  readonly #whenPlanned = (): void => {
    this.#isPlanned = false
    this.#dispatch(false)
  }

  readonly #whenBudget = (): void => this.#dispatch(true)

  #dispatch(isNext: boolean): void {
    const { budget, threadsPerRun } = this.#options
    while (!this.#former.isEmpty) {
      const moment = now()
      const seat = this.#freeSeat(moment)
      if (seat === undefined) return
      const wasIdle = seat.executor.running === 0
      const reason = wasIdle ? this.#leaves(moment, isNext) : 'full'
      if (reason === undefined) return
      if (wasIdle && !budget.take(threadsPerRun, this.#whenBudget)) return
      const batch = this.#former.next(moment, wasIdle ? 0 : busyMs(seat, moment))
      if (batch === undefined) {
        if (wasIdle) budget.give(threadsPerRun)
        break
      }
      this.#run(seat, batch, moment, reason)
    }
    this.#tellIdle()
  }

  /** Why what is due leaves now; undefined when it is held back. */
  #leaves(moment: Now, isNext: boolean): DispatchReason | undefined {
    clearTimeout(this.#holdTimer)
    const timing = this.#former.timing(moment, {
      isNext,
      isArriving: this.#isArriving,
      isDraining: this.#isDraining,
    })
    this.#isArriving = false
    if (timing.kind === 'leave') return timing.reason
    if (timing.kind === 'gather') this.#plan()
    else this.#holdTimer = setTimeout(this.#whenPlanned, timing.forMs)
    return undefined
  }

  #run(seat: Seat, { isRetry, expectedMs, ...formed }: FormedBatch, { ms }: Now, reason: DispatchReason): void {
    const { executor } = seat
    const isBehind = executor.running > 0
    const batch: WorkBatch = { ...formed, dispatchedMs: ms, reason: isRetry ? 'retry' : reason, isBehind }
    seat.freeAtMs = (isBehind ? Math.max(seat.freeAtMs, ms) : ms) + expectedMs
    this.#running++
    this.#counts.batches++
    this.#counts.rows += batch.rows
    executor.run(batch)
    if (!isBehind) return
    const withdraw = (): void => executor.withdraw(batch)
    for (const member of batch.members) member.onCancel?.(withdraw)
  }

  /** An executor that is idle, else one that may be handed a second batch because it is full. */
  #freeSeat(moment: Now): Seat | undefined {
    const mayWait = this.#former.isFull(moment) && !this.#options.budget.isContended
    let spare: Seat | undefined
    for (const seat of this.#seats) {
      const { running, slots } = seat.executor
      if (running === 0) return seat
      if (mayWait && running < slots) spare ??= seat
    }
    return spare
  }

  #ended(executor: Executor): void {
    this.#running--
    if (executor.running > 0) return
    const seat = this.#seatOf(executor)
    if (seat !== undefined) seat.freeAtMs = 0
    this.#emptied(executor)
  }

  /** An executor has nothing to do any more: its threads are free, and it may go. */
  #emptied(executor: Executor): void {
    this.#leaving.get(executor)?.()
    this.#leaving.delete(executor)
    this.#options.budget.give(this.#options.threadsPerRun)
  }

  #seatOf(executor: Executor): Seat | undefined {
    return this.#seats.find((seat) => seat.executor === executor)
  }

  #unseat(executor: Executor): void {
    const at = this.#seats.findIndex((seat) => seat.executor === executor)
    if (at >= 0) this.#seats.splice(at, 1)
  }

  #fail(work: Work, failure: Failure): void {
    work.fail(failure)
    this.#options.onFailed?.(work, failure)
  }

  #isIdle(): boolean {
    return this.#former.isEmpty && this.#running === 0
  }

  #tellIdle(): void {
    if (this.#whenIdle.length === 0 || !this.#isIdle()) return
    for (const tell of this.#whenIdle.splice(0)) tell()
  }
}

function now(): Now {
  return { ms: performance.now(), epochMs: Date.now() }
}
