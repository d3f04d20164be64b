/**
 * A version whose answers are kept for a while.
 *
 * 1. An answer is given again only for the same version, inputs and outputs, byte for byte, and only while it is young enough.
 * 2. Requests that are equal and come while the first of them runs wait for it: it runs once. It runs as long as one of them
 *    wants it, and each keeps its own deadline.
 * 3. Failures are not kept.
 * 4. An answer is kept after its caller has it. Background work neither reads nor fills the cache.
 */
import type { Failure } from '@slipway/rpc'
import type { OutputView } from '../executors/executor.ts'
import type { FindGroup } from '../plan.ts'
import { refusal } from '../refusals.ts'
import type { Servable, WorkCounts } from '../servable.ts'
import { type AnswerPart, BACKGROUND_PRIORITY, type Work } from '../work-queue.ts'
import { requestKey } from './request-key.ts'
import type { ResponseStore } from './response-store.ts'

/** Requests that may wait for the same answer. */
export const MAX_WAITING_FOR_ONE = 65_536

/** See the top of this file. */
export class CachedVersion implements Servable {
  readonly #version: Servable
  readonly #store: ResponseStore
  readonly #flights = new Map<string, Flight>()
  #hits = 0
  #misses = 0
  lastUsedMs: number

  constructor(version: Servable, store: ResponseStore) {
    this.#version = version
    this.#store = store
    this.lastUsedMs = version.lastUsedMs
  }

  get name(): string {
    return this.#version.name
  }

  get model(): string {
    return this.#version.model
  }

  get number(): string {
    return this.#version.number
  }

  get digest(): string {
    return this.#version.digest
  }

  get sizeBytes(): number {
    return this.#version.sizeBytes
  }

  get signature(): Servable['signature'] {
    return this.#version.signature
  }

  get memoryBytes(): number | undefined {
    return this.#version.memoryBytes
  }

  get platform(): string {
    return this.#version.platform
  }

  get ensemble(): Servable['ensemble'] {
    return this.#version.ensemble
  }

  get isQuarantined(): boolean {
    return this.#version.isQuarantined
  }

  get counts(): WorkCounts {
    return { ...this.#version.counts, cacheHits: this.#hits, cacheMisses: this.#misses }
  }

  get group(): FindGroup {
    return this.#version.group
  }

  offer(work: Work): void {
    if (work.priority >= BACKGROUND_PRIORITY) {
      this.#version.offer(work)
      return
    }
    const key = requestKey(this.digest, work)
    const known = this.#store.get(key, performance.now())
    if (known !== undefined) {
      this.#hits++
      answerWhole(work, known)
      return
    }
    const flight = this.#flights.get(key)
    if (flight?.join(work)) {
      this.#hits++
      return
    }
    this.#misses++
    const fresh = new Flight(this.model, work, (outputs) => this.#landed(key, fresh, outputs))
    this.#flights.set(key, fresh)
    this.#version.offer(fresh)
  }

  drain(): Promise<void> {
    return this.#version.drain()
  }

  close(): Promise<void> {
    return this.#version.close()
  }

  #landed(key: string, flight: Flight, outputs: readonly OutputView[] | undefined): void {
    if (this.#flights.get(key) === flight) this.#flights.delete(key)
    if (outputs !== undefined) setImmediate(() => this.#store.put(key, outputs, performance.now()))
  }
}

/** Equal requests on their way through the version as one. */
class Flight implements Work {
  readonly bytes: Buffer
  readonly offsets: readonly number[]
  readonly group: Work['group']
  readonly rows: number
  readonly priority: number
  readonly arrivedMs: number
  readonly trace: Work['trace']
  readonly #model: string
  readonly #waiting: Work[]
  #latestMs: number
  #listener: (() => void) | undefined
  /** Hears the outputs, in memory of their own, or nothing when there are none. */
  readonly #landed: (outputs: readonly OutputView[] | undefined) => void

  constructor(model: string, first: Work, landed: (outputs: readonly OutputView[] | undefined) => void) {
    this.#model = model
    this.bytes = first.bytes
    this.offsets = first.offsets
    this.group = first.group
    this.rows = first.rows
    this.priority = first.priority
    this.arrivedMs = first.arrivedMs
    this.trace = first.trace
    this.#waiting = [first]
    this.#latestMs = first.deadlineMs
    this.#landed = landed
  }

  /** The latest of all that wait. */
  get deadlineMs(): number {
    return this.#latestMs
  }

  get isCancelled(): boolean {
    return this.#waiting.every(({ isCancelled }) => isCancelled)
  }

  onCancel(listener: () => void): void {
    this.#listener = listener
    for (const work of this.#waiting) this.#watch(work)
  }

  /** Whoever is the last to go takes the flight along. */
  #watch(work: Work): void {
    work.onCancel?.(() => {
      if (this.isCancelled) this.#listener?.()
    })
  }

  /** Adds an equal request; false when too many wait already, or nobody does any more. */
  join(work: Work): boolean {
    if (this.#waiting.length >= MAX_WAITING_FOR_ONE || this.isCancelled || this.deadlineMs <= Date.now()) return false
    this.#waiting.push(work)
    if (this.#listener !== undefined) this.#watch(work)
    this.#latestMs = Math.max(this.#latestMs, work.deadlineMs)
    return true
  }

  answer(outputs: readonly OutputView[], part: AnswerPart): void {
    const nowMs = Date.now()
    for (const work of this.#waiting) {
      if (work.isCancelled) work.fail(refusal.cancelled())
      else if (work.deadlineMs <= nowMs && work !== this.#waiting[0]) work.fail(refusal.deadline(this.#model))
      else work.answer(outputs, part)
    }
    this.#landed(copyPart(outputs, part))
  }

  fail(failure: Failure): void {
    this.#landed(undefined)
    for (const work of this.#waiting) work.fail(failure)
  }
}

/** One request's part of a batch's outputs, in memory of its own. */
function copyPart(outputs: readonly OutputView[], { starts, ends, rows }: AnswerPart): OutputView[] {
  return outputs.map(({ dims, bytes }, index) => ({
    dims: rows === undefined ? dims : [rows, ...dims.slice(1)],
    bytes: Buffer.from(bytes.subarray(starts[index], ends[index])),
  }))
}

function answerWhole(work: Work, outputs: readonly OutputView[]): void {
  const starts = outputs.map(() => 0)
  const ends = outputs.map(({ bytes }) => bytes.length)
  if (work.isCancelled) work.fail(refusal.cancelled())
  else work.answer(outputs, { starts, ends, rows: undefined })
}
