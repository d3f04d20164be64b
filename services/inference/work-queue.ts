import type { Datatype } from '@slipway/onnx'
import type { Failure } from '@slipway/rpc'
import type { Context } from '@slipway/telemetry'
import type { OutputView } from './executors/executor.ts'
import type { GroupDescription } from './executors/layout.ts'

/** From this priority on work is done for nobody who waits: explanations of logged predictions, jobs over files. */
export const BACKGROUND_PRIORITY = 8

/** Requests of one version that can run together. */
export interface Group extends GroupDescription {
  /** False when each request runs alone: the model does not take rows. */
  readonly batchable: boolean
  /** The datatypes of the outputs wanted. */
  readonly outputDatatypes: readonly Datatype[]
}

/** One request in the queue. */
export interface Work {
  readonly bytes: Buffer
  readonly offsets: readonly number[]
  readonly group: Group
  readonly rows: number
  /** 1 is the most urgent, larger numbers less so; 0 leaves it to the server. */
  readonly priority: number
  /** Epoch milliseconds; Infinity when there is none. */
  readonly deadlineMs: number
  /** By `performance.now()`. */
  readonly arrivedMs: number
  readonly isCancelled: boolean
  /** The trace that the request belongs to; undefined when none is kept. */
  readonly trace: Context | undefined
  /** Sends what the request asked for: of each output the bytes from `starts` to `ends`. */
  answer(outputs: readonly OutputView[], part: AnswerPart): void
  fail(failure: Failure): void
}

/** One request's part of the outputs of its batch. */
export interface AnswerPart {
  readonly starts: readonly number[]
  readonly ends: readonly number[]
  /** Rows of the part; undefined when it is the whole, as it is. */
  readonly rows: number | undefined
}

/** Bounds of one batch. */
export interface TakeLimits {
  readonly maxRows: number
  readonly maxBytes: number
}

interface Line {
  readonly works: Work[]
  head: number
}

const COMPACT_FROM = 1024

/** Requests in the order in which they arrived, a line for each group. */
export class WorkQueue {
  readonly #lines = new Map<Group, Line>()
  #rows = 0
  #requests = 0

  get rows(): number {
    return this.#rows
  }

  get requests(): number {
    return this.#requests
  }

  push(work: Work): void {
    let line = this.#lines.get(work.group)
    if (line === undefined) {
      line = { works: [], head: 0 }
      this.#lines.set(work.group, line)
    }
    line.works.push(work)
    this.#rows += work.rows
    this.#requests++
  }

  /**
   * Takes requests of the group whose first has waited longest, as many as the limits allow and at least one. `isWanted`
   * is asked of each, with the rows that the batch would have, and drops those that are not; so the answer can be empty.
   */
  take(limits: TakeLimits, isWanted: (work: Work, rows: number) => boolean): Work[] {
    const members: Work[] = []
    const [group, line] = this.#oldest() ?? []
    if (group === undefined || line === undefined) return members
    let rows = 0
    let bytes = 0
    while (line.head < line.works.length) {
      const work = line.works[line.head] as Work
      if (members.length > 0 && (rows + work.rows > limits.maxRows || bytes + work.bytes.length > limits.maxBytes))
        break
      line.head++
      this.#rows -= work.rows
      this.#requests--
      if (!isWanted(work, rows + work.rows)) continue
      members.push(work)
      rows += work.rows
      bytes += work.bytes.length
      if (!group.batchable || work.rows === 0) break
    }
    this.#compact(group, line)
    return members
  }

  /** Takes everything. */
  takeAll(): Work[] {
    const works = [...this.#lines.values()].flatMap(({ works: line, head }) => line.slice(head))
    this.#lines.clear()
    this.#rows = 0
    this.#requests = 0
    return works
  }

  #oldest(): [Group, Line] | undefined {
    let oldest: [Group, Line] | undefined
    let arrivedMs = Number.POSITIVE_INFINITY
    for (const entry of this.#lines) {
      const first = entry[1].works[entry[1].head]
      if (first === undefined || first.arrivedMs >= arrivedMs) continue
      oldest = entry
      arrivedMs = first.arrivedMs
    }
    return oldest
  }

  #compact(group: Group, line: Line): void {
    if (line.head === line.works.length) {
      // A line that is empty is kept while it is the only one, which spares making it anew for each batch.
      line.works.length = 0
      line.head = 0
      if (this.#lines.size > 1) this.#lines.delete(group)
    } else if (line.head > COMPACT_FROM && line.head * 2 > line.works.length) {
      line.works.splice(0, line.head)
      line.head = 0
    }
  }
}
