/**
 * What waits for one version, and which batches are made of it. It fails requests that cannot be had any more, and else only decides:
 * it knows no executor and no clock, so that a test can play both.
 */
import type { Failure } from '@slipway/rpc'
import { expectedWaitMs } from './admission.ts'
import { HOLD_SHARE } from './batch-bound.ts'
import { type Moment, type Timing, timeBatch } from './batch-timing.ts'
import { GroupLatency, type Passage } from './group-latency.ts'
import { lessUrgentRows, levelOf, MAX_LEVEL, POLITE_MS, politeRows } from './priorities.ts'
import { refusal } from './refusals.ts'
import { type Group, type Judge, type Lead, type Work, WorkQueue } from './work-queue.ts'

/** Bounds of one version's queue and batches. */
export interface BatchLimits {
  readonly maxBatchRows: number
  readonly maxBatchBytes: number
  readonly maxQueueRows: number
  readonly maxQueueWaitMs: number
  /** How long a batch is held back for more requests; 0 when unset. */
  readonly delayMs?: number | undefined
  /** A batch of so many rows is not held back; `maxBatchRows` when unset. */
  readonly preferredBatchRows?: number | undefined
  /** Time from arrival to answer that 99 of 100 requests should meet; batches are as large as it allows. None when unset. */
  readonly latencyObjectiveMs?: number | undefined
}

/** One moment by two clocks: `performance.now()`, and epoch milliseconds. */
export interface Now {
  readonly ms: number
  readonly epochMs: number
}

/** Requests that run together. */
export interface FormedBatch {
  readonly group: Group
  readonly members: readonly Work[]
  readonly rows: number
  /** The earliest deadline in it, epoch milliseconds. */
  readonly notAfterMs: number
  /** How long it will run, as far as is known. */
  readonly expectedMs: number
  readonly isRetry: boolean
}

/** What a former needs from around it. */
export interface FormerOptions {
  readonly model: string
  readonly limits: BatchLimits
  /** Tells a caller that, and why, there will be no answer. */
  readonly fail: (work: Work, failure: Failure) => void
}

interface Retry {
  readonly group: Group
  readonly members: readonly Work[]
}

/** What an executor that could take a batch does not know of itself. */
type Situation = Pick<Moment, 'isNext' | 'isArriving' | 'isDraining'>

/** Longest time for which requests go on to join a batch only because the event loop brings more of them. */
const MAX_GATHER_MS = 4

/** Of the time that a request has to spare, the share that waiting may take, and then the rest of its batch. */
const SPARE_SHARE = 0.5

/** See the top of this file. */
export class BatchFormer {
  readonly counts = { expired: 0, cancelled: 0, shed: 0 }
  readonly #model: string
  readonly #limits: BatchLimits
  readonly #fail: FormerOptions['fail']
  readonly #latency: GroupLatency
  readonly #queue = new WorkQueue()
  readonly #retries: Retry[] = []
  /** When the last request of each level came. */
  readonly #lastMs = new Float64Array(MAX_LEVEL + 1).fill(Number.NEGATIVE_INFINITY)
  #takesRows = true

  constructor({ model, limits, fail }: FormerOptions) {
    this.#model = model
    this.#limits = limits
    this.#fail = fail
    const { maxBatchRows: maxRows, latencyObjectiveMs: objectiveMs = Number.POSITIVE_INFINITY } = limits
    this.#latency = new GroupLatency({ maxRows, objectiveMs })
  }

  get isEmpty(): boolean {
    return this.#queue.requests === 0 && this.#retries.length === 0
  }

  /** Requests that wait. */
  get queued(): number {
    return this.#queue.requests
  }

  /**
   * True when what is due would fill a batch, so that it may as well wait in an executor for the one that runs; not so when more
   * urgent requests may come, which would then wait for both.
   */
  isFull(now: Now): boolean {
    const lead = this.#queue.lead()
    return lead !== undefined && lead.rows >= this.#latency.maxRows(lead.group) && !this.#isPolite(lead, now.ms)
  }

  /** Takes a request, or fails it at once. `busyMs`: time until each executor has done what it was given, all added up. */
  offer(work: Work, now: Now, busyMs: number, executors: number): void {
    const isFree = this.#queue.requests === 0 && busyMs === 0
    const refused = isFree ? undefined : this.#refuse(work, now, busyMs, executors)
    if (refused !== undefined) {
      this.counts.shed++
      this.#fail(work, refused)
      return
    }
    this.#lastMs[levelOf(work.priority)] = now.ms
    this.#queue.push(work)
  }

  /** Has requests run again, before all others. */
  retry(group: Group, members: readonly Work[]): void {
    this.#retries.push({ group, members })
  }

  /** From now on requests run one by one: the model does not keep rows. */
  separate(): void {
    this.#takesRows = false
  }

  /** Takes everything that waits. */
  takeAll(): Work[] {
    return [...this.#retries.splice(0).flatMap(({ members }) => members), ...this.#queue.takeAll()]
  }

  /** Whether what is due should leave for an idle executor now. */
  timing(now: Now, { isNext, isArriving, isDraining }: Situation): Timing {
    const lead = this.#retries.length > 0 ? undefined : this.#queue.lead()
    if (lead === undefined) return { kind: 'leave', reason: 'retry' }
    const { group, rows, arrivedMs, deadlineMs, hasOthers } = lead
    const { delayMs = 0, preferredBatchRows = Number.POSITIVE_INFINITY } = this.#limits
    const { latencyObjectiveMs = Number.POSITIVE_INFINITY } = this.#limits
    return timeBatch({
      rows,
      enoughRows: Math.min(preferredBatchRows, this.#latency.maxRows(group)),
      gatherMs: group.batchable && this.#takesRows ? Math.min(this.#latency.overheadMs, MAX_GATHER_MS) : 0,
      isArriving,
      holdMs: group.batchable && this.#takesRows ? Math.min(delayMs, latencyObjectiveMs * HOLD_SHARE) : 0,
      waitedMs: now.ms - arrivedMs,
      slackMs: deadlineMs - now.epochMs - this.#latency.predict(group, rows) - 2 * this.#latency.overheadMs,
      hasOthers,
      isDraining,
      isNext,
    })
  }

  /** Makes the batch that is due, to begin after so long; undefined when nothing that waits can be had any more. */
  next(now: Now, beginsInMs: number): FormedBatch | undefined {
    while (!this.isEmpty) {
      const retry = this.#retries.shift()
      const batch = retry === undefined ? this.#fresh(now, beginsInMs) : this.#again(retry, now)
      if (batch !== undefined) return batch
    }
    return undefined
  }

  /** A batch ran for so long, see GroupLatency. */
  observe(group: Group, rows: number, runMs: number, passage: Passage): void {
    this.#latency.observe(group, rows, runMs, passage)
  }

  /** Forgets how long batches take: the first run of a model is no example for the next ones. */
  relearn(): void {
    this.#latency.forget()
  }

  #refuse(work: Work, now: Now, busyMs: number, executors: number): Failure | undefined {
    const { group, rows, deadlineMs, priority } = work
    const before = this.#queue.rowsUpTo(levelOf(priority))
    const batchRows = this.#latency.maxRows(group)
    const { gapMs } = this.#latency
    const latency = this.#latency.model(group)
    const waitMs = expectedWaitMs({ rows: before, batchRows, busyMs, executors, gapMs, latency })
    if (before > 0 && before + rows > this.#limits.maxQueueRows)
      return refusal.queueFull(this.#model, `${before} rows wait`, waitMs)
    if (waitMs > this.#limits.maxQueueWaitMs)
      return refusal.queueFull(this.#model, `the wait is ${Math.round(waitMs)} ms`, waitMs)
    if (deadlineMs === Number.POSITIVE_INFINITY) return undefined
    const spareMs = deadlineMs - now.epochMs - this.#latency.predict(group, rows) - this.#latency.overheadMs
    if (waitMs <= spareMs * SPARE_SHARE) return undefined
    return refusal.queueFull(this.#model, `the wait of ${Math.round(waitMs)} ms outlasts the deadline`, waitMs)
  }

  #fresh(now: Now, beginsInMs: number): FormedBatch | undefined {
    const lead = this.#queue.lead()
    if (lead === undefined) return undefined
    const { group } = lead
    const { cost } = this.#latency.model(group)
    const limits = {
      maxRows: this.#takesRows ? this.#maxRows(lead, now.ms) : 0,
      maxBytes: this.#limits.maxBatchBytes,
      lessUrgentRows: (rows: number) => lessUrgentRows(cost, rows),
    }
    const judging = this.#judge(group, now, beginsInMs)
    const members = this.#queue.take(limits, judging.judge)
    return this.#formed(group, members, judging.earliestMs(), false)
  }

  #again({ group, members }: Retry, now: Now): FormedBatch | undefined {
    const wanted = members.filter((work) => this.#isWanted(work, now))
    return this.#formed(group, wanted, Math.min(...wanted.map(({ deadlineMs }) => deadlineMs)), true)
  }

  #formed(group: Group, members: readonly Work[], notAfterMs: number, isRetry: boolean): FormedBatch | undefined {
    if (members.length === 0) return undefined
    let rows = 0
    for (const member of members) rows += member.rows
    return {
      group,
      members,
      rows,
      notAfterMs,
      expectedMs: this.#latency.predict(group, rows) + this.#latency.gapMs,
      isRetry,
    }
  }

  #maxRows(lead: Lead, nowMs: number): number {
    const maxRows = this.#latency.maxRows(lead.group)
    if (!this.#isPolite(lead, nowMs)) return maxRows
    return Math.min(maxRows, politeRows(this.#latency.model(lead.group).cost))
  }

  /** Whether what is due should leave room for more urgent requests: some came lately. */
  #isPolite({ level }: Lead, nowMs: number): boolean {
    for (let urgent = 1; urgent < level; urgent++) {
      if (nowMs - (this.#lastMs[urgent] as number) < POLITE_MS) return true
    }
    return false
  }

  /** Takes who can have the answer in time, as long as nobody in the batch is brought close to being late by it. */
  #judge(group: Group, now: Now, beginsInMs: number): { readonly judge: Judge; earliestMs(): number } {
    const readyMs = now.epochMs + beginsInMs + this.#latency.overheadMs
    let earliestMs = Number.POSITIVE_INFINITY
    let latestEndMs = Number.POSITIVE_INFINITY
    const judge: Judge = (work, rows) => {
      if (!this.#isWanted(work, now)) return 'drop'
      const { deadlineMs } = work
      if (deadlineMs === Number.POSITIVE_INFINITY && latestEndMs === Number.POSITIVE_INFINITY) return 'take'
      const aloneMs = readyMs + this.#latency.predict(group, work.rows)
      if (aloneMs > deadlineMs) {
        this.#latency.doubt(group)
        this.#expire(work)
        return 'drop'
      }
      const endMs = Math.min(latestEndMs, aloneMs + (deadlineMs - aloneMs) * SPARE_SHARE)
      if (rows > work.rows && readyMs + this.#latency.predict(group, rows) > endMs) return 'close'
      latestEndMs = endMs
      earliestMs = Math.min(earliestMs, deadlineMs)
      return 'take'
    }
    return { judge, earliestMs: () => earliestMs }
  }

  /** Whether somebody still waits for the work; fails it otherwise. */
  #isWanted(work: Work, now: Now): boolean {
    if (work.deadlineMs <= now.epochMs) {
      this.#expire(work)
      return false
    }
    if (!work.isCancelled) return true
    this.counts.cancelled++
    this.#fail(work, refusal.cancelled())
    return false
  }

  #expire(work: Work): void {
    this.counts.expired++
    this.#fail(work, refusal.deadline(this.#model))
  }
}
