/** A server that exists in a test only: BatchFormer with executors that are made of numbers, on a clock that a test moves. */
import type { Failure } from '@slipway/rpc'
import { BatchFormer, type BatchLimits, type FormedBatch, type Now } from './batch-former.ts'
import type { DispatchReason } from './batch-timing.ts'
import type { Group, Work } from './work-queue.ts'

/** A group of requests of one input. */
export function fakeGroup(id: number, batchable = true): Group {
  return {
    id,
    batchable,
    inputs: [{ name: 'x', datatype: 'UINT8', dims: [-1] }],
    outputs: ['y'],
    outputDatatypes: ['UINT8'],
  }
}

/** A request, and what became of it. */
export class SimulatedWork implements Work {
  readonly bytes = Buffer.alloc(0)
  readonly offsets = [0, 0]
  readonly trace = undefined
  readonly group: Group
  readonly rows: number
  readonly priority: number
  readonly deadlineMs: number
  readonly arrivedMs: number
  isCancelled = false
  /** When its run began. */
  beganMs: number | undefined
  answeredMs: number | undefined
  failure: Failure | undefined
  outcomes = 0

  constructor(arrivedMs: number, change: Partial<Pick<Work, 'group' | 'rows' | 'priority' | 'deadlineMs'>> = {}) {
    this.arrivedMs = arrivedMs
    this.group = change.group ?? everyGroup
    this.rows = change.rows ?? 1
    this.priority = change.priority ?? 0
    this.deadlineMs = change.deadlineMs ?? Number.POSITIVE_INFINITY
  }

  get latencyMs(): number {
    return (this.answeredMs ?? Number.POSITIVE_INFINITY) - this.arrivedMs
  }

  answer(): void {
    this.outcomes++
  }

  fail(failure: Failure): void {
    this.failure = failure
    this.outcomes++
  }
}

const everyGroup = fakeGroup(1)

/** What a simulated server is made of. */
export interface SimulatedServerOptions {
  readonly limits: BatchLimits
  readonly executors?: number
  /** How long a batch runs that begins then. */
  readonly runMs: (batch: FormedBatch, nowMs: number) => number
  /** Hears of each batch when it has run. */
  readonly onBatch?: (batch: SimulatedBatch, nowMs: number) => void
}

/** A batch that ran. */
export interface SimulatedBatch extends FormedBatch {
  readonly reason: DispatchReason
  readonly beganMs: number
  readonly tookMs: number
}

interface Event {
  readonly atMs: number
  readonly order: number
  readonly happen: () => void
}

interface SimulatedExecutor {
  readonly batches: { readonly batch: FormedBatch; readonly reason: DispatchReason; readonly isBehind: boolean }[]
  freeAtMs: number
}

/** See the top of this file. Both clocks begin at 0 and run alike. */
export class SimulatedServer {
  readonly former: BatchFormer
  readonly batches: SimulatedBatch[] = []
  nowMs = 0
  readonly #options: SimulatedServerOptions
  readonly #executors: readonly SimulatedExecutor[]
  readonly #events: Event[] = []
  #order = 0
  #plannedMs = Number.POSITIVE_INFINITY

  constructor(options: SimulatedServerOptions) {
    this.#options = options
    this.former = new BatchFormer({ model: 'm', limits: options.limits, fail: (work, failure) => work.fail(failure) })
    this.#executors = Array.from({ length: options.executors ?? 1 }, () => ({ batches: [], freeAtMs: 0 }))
  }

  /** Has something happen then. */
  at(atMs: number, happen: () => void): void {
    const event = { atMs, order: this.#order++, happen }
    let index = this.#events.length
    this.#events.push(event)
    // A heap, the earliest first.
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!isBefore(event, this.#events[parent] as Event)) break
      this.#events[index] = this.#events[parent] as Event
      index = parent
    }
    this.#events[index] = event
  }

  /** A request arrives now. */
  offer(work: SimulatedWork): SimulatedWork {
    const busyMs = this.#executors.reduce((sum, executor) => sum + this.#busyMs(executor), 0)
    this.former.offer(work, this.#now(), busyMs, this.#executors.length)
    this.#plan(this.nowMs)
    return work
  }

  /** Lets time pass until nothing is left to happen, or until then. */
  run(untilMs = Number.POSITIVE_INFINITY): void {
    for (let event = this.#pop(untilMs); event !== undefined; event = this.#pop(untilMs)) {
      this.nowMs = event.atMs
      event.happen()
    }
    if (untilMs !== Number.POSITIVE_INFINITY) this.nowMs = untilMs
  }

  #plan(atMs: number): void {
    if (this.#plannedMs <= atMs) return
    this.#plannedMs = atMs
    this.at(atMs, () => {
      if (this.#plannedMs === atMs) this.#plannedMs = Number.POSITIVE_INFINITY
      this.#dispatch(false)
    })
  }

  #dispatch(isNext: boolean): void {
    while (!this.former.isEmpty) {
      const executor = this.#free()
      if (executor === undefined) return
      const isBehind = executor.batches.length > 0
      let reason: DispatchReason = 'full'
      if (!isBehind) {
        const timing = this.former.timing(this.#now(), { isNext, isArriving: false, isDraining: false })
        // It has no turns of an event loop in which requests would arrive.
        if (timing.kind === 'gather') return
        if (timing.kind === 'hold') {
          this.#plan(this.nowMs + timing.forMs)
          return
        }
        reason = timing.reason
      }
      const batch = this.former.next(this.#now(), isBehind ? this.#busyMs(executor) : 0)
      if (batch === undefined) return
      executor.freeAtMs = (isBehind ? Math.max(executor.freeAtMs, this.nowMs) : this.nowMs) + batch.expectedMs
      executor.batches.push({ batch, reason: batch.isRetry ? 'retry' : reason, isBehind })
      if (!isBehind) this.#begin(executor)
    }
  }

  #begin(executor: SimulatedExecutor): void {
    const [first] = executor.batches
    if (first === undefined) return
    const { batch, reason, isBehind } = first
    if (this.nowMs > batch.notAfterMs) {
      executor.batches.shift()
      this.former.retry(batch.group, batch.members)
      this.#begin(executor)
      this.#dispatch(true)
      return
    }
    const tookMs = this.#options.runMs(batch, this.nowMs)
    const beganMs = this.nowMs
    for (const work of batch.members) (work as SimulatedWork).beganMs = beganMs
    this.at(beganMs + tookMs, () => {
      executor.batches.shift()
      this.former.observe(batch.group, batch.rows, tookMs, { sinceMs: tookMs, isBehind })
      for (const work of batch.members as readonly SimulatedWork[]) {
        work.answeredMs = this.nowMs
        work.answer()
      }
      const ran = { ...batch, reason, beganMs, tookMs }
      this.batches.push(ran)
      this.#begin(executor)
      this.#options.onBatch?.(ran, this.nowMs)
      this.#dispatch(true)
    })
  }

  #free(): SimulatedExecutor | undefined {
    const idle = this.#executors.find(({ batches }) => batches.length === 0)
    if (idle !== undefined || !this.former.isFull(this.#now())) return idle
    return this.#executors.find(({ batches }) => batches.length < 2)
  }

  #busyMs({ batches, freeAtMs }: SimulatedExecutor): number {
    return batches.length === 0 ? 0 : Math.max(0.001, freeAtMs - this.nowMs)
  }

  #now(): Now {
    return { ms: this.nowMs, epochMs: this.nowMs }
  }

  #pop(untilMs: number): Event | undefined {
    const [first] = this.#events
    if (first === undefined || first.atMs > untilMs) return undefined
    const last = this.#events.pop() as Event
    if (this.#events.length === 0) return first
    let index = 0
    for (;;) {
      let child = 2 * index + 1
      const right = this.#events[child + 1]
      if (right !== undefined && isBefore(right, this.#events[child] as Event)) child++
      const smaller = this.#events[child]
      if (smaller === undefined || !isBefore(smaller, last)) break
      this.#events[index] = smaller
      index = child
    }
    this.#events[index] = last
    return first
  }
}

function isBefore(one: Event, other: Event): boolean {
  return one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order)
}

/** Numbers in (0, 1) that are the same in every run (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (((mixed ^ (mixed >>> 14)) >>> 0) + 0.5) / 2 ** 32
  }
}

/** Has requests arrive at random times, so many a second on average, until then. */
export function poisson(
  server: SimulatedServer,
  options: {
    readonly perSecond: number
    readonly fromMs?: number
    readonly untilMs: number
    readonly seed: number
    readonly work: (nowMs: number) => SimulatedWork
  },
): SimulatedWork[] {
  const { perSecond, fromMs = 0, untilMs, seed, work } = options
  const random = randomNumbers(seed)
  const works: SimulatedWork[] = []
  const arrive = (atMs: number): void => {
    if (atMs >= untilMs) return
    server.at(atMs, () => {
      works.push(server.offer(work(atMs)))
      arrive(atMs - Math.log(random()) * (1000 / perSecond))
    })
  }
  arrive(fromMs)
  return works
}

/** The share of numbers that are no larger is at least so much. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = Float64Array.from(values).sort()
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}
