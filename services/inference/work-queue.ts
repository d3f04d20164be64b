import type { Datatype } from '@slipway/onnx'
import type { Failure } from '@slipway/rpc'
import type { Context } from '@slipway/telemetry'
import type { OutputView } from './executors/executor.ts'
import type { GroupDescription } from './executors/layout.ts'
import { AgedShare, DEFAULT_AGEING_MS, levelOf, MAX_LEVEL, rankOf } from './priorities.ts'

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
  /** Has a listener told once, if it is cancelled from now on, in place of the one before; unset where nobody can say. */
  onCancel?(listener: () => void): void
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
  /** Rows that requests less urgent than its first one may add to a batch of so many. */
  readonly lessUrgentRows: (rows: number) => number
}

/** What becomes of a request that is due: it joins the batch, it is no more, or the batch is complete without it. */
export type Verdict = 'take' | 'drop' | 'close'

/** Judges a request that would make a batch of so many rows. */
export type Judge = (work: Work, rows: number) => Verdict

/** What would run next. */
export interface Lead {
  readonly group: Group
  /** The level of the request that leads. */
  readonly level: number
  /** Rows of its group that wait, of all levels. */
  readonly rows: number
  /** When the oldest of its line arrived, by `performance.now()`. */
  readonly arrivedMs: number
  /** No deadline of its group is earlier; epoch milliseconds. */
  readonly deadlineMs: number
  /** True when requests of other groups wait, too. */
  readonly hasOthers: boolean
}

interface Line {
  readonly level: number
  readonly works: Work[]
  head: number
}

/** The lines of one group, the most urgent level first; a line that is empty stays while the group does. */
interface Lines {
  readonly group: Group
  readonly lines: Line[]
  rows: number
  requests: number
  /** A lower bound; forgotten when nothing waits. */
  deadlineMs: number
}

const COMPACT_FROM = 1024

/** Requests in the order in which they are due, for each group a line of each level. */
export class WorkQueue {
  readonly #groups = new Map<Group, Lines>()
  readonly #rowsOfLevel = new Float64Array(MAX_LEVEL + 1)
  readonly #aged = new AgedShare()
  readonly #ageingMs: number
  #rows = 0
  #requests = 0

  constructor(ageingMs = DEFAULT_AGEING_MS) {
    this.#ageingMs = ageingMs
  }

  get rows(): number {
    return this.#rows
  }

  get requests(): number {
    return this.#requests
  }

  /** Rows that wait and are as urgent as this level, or more. */
  rowsUpTo(level: number): number {
    let rows = 0
    for (let index = 1; index <= level; index++) rows += this.#rowsOfLevel[index] as number
    return rows
  }

  push(work: Work): void {
    const level = levelOf(work.priority)
    let entry = this.#groups.get(work.group)
    if (entry === undefined) {
      entry = { group: work.group, lines: [], rows: 0, requests: 0, deadlineMs: Number.POSITIVE_INFINITY }
      this.#groups.set(work.group, entry)
    }
    lineOf(entry.lines, level).works.push(work)
    entry.rows += work.rows
    entry.requests++
    if (work.deadlineMs < entry.deadlineMs) entry.deadlineMs = work.deadlineMs
    this.#rows += work.rows
    this.#rowsOfLevel[level] = (this.#rowsOfLevel[level] as number) + work.rows
    this.#requests++
  }

  /** What `take` would begin with; undefined when nothing waits. */
  lead(): Lead | undefined {
    const { entry, line } = this.#choose() ?? {}
    const first = line?.works[line.head]
    if (entry === undefined || line === undefined || first === undefined) return undefined
    const { group, rows, requests, deadlineMs } = entry
    const hasOthers = requests < this.#requests
    return { group, level: line.level, rows, arrivedMs: first.arrivedMs, deadlineMs, hasOthers }
  }

  /**
   * Takes requests of the group that is due, as many as the limits and the judge allow. All may be dropped, so the answer can be
   * empty.
   */
  take(limits: TakeLimits, judge: Judge): Work[] {
    const chosen = this.#choose()
    if (chosen === undefined) return []
    const { entry, line: lead, urgentLevel } = chosen
    const batch: Taking = { members: [], rows: 0, bytes: 0 }
    let isOpen = this.#fill(batch, entry, lead, limits, judge)
    for (const line of entry.lines) {
      if (!isOpen) break
      if (line === lead || line.head === line.works.length) continue
      const room = line.level > lead.level ? batch.rows + limits.lessUrgentRows(batch.rows) : limits.maxRows
      isOpen = this.#fill(batch, entry, line, { ...limits, maxRows: Math.min(limits.maxRows, room) }, judge)
    }
    if (urgentLevel < lead.level) this.#aged.took(batch.rows, true)
    else if (this.#rows > this.rowsUpTo(lead.level)) this.#aged.took(batch.rows, false)
    this.#tidy(entry)
    return batch.members
  }

  /** Takes everything. */
  takeAll(): Work[] {
    const works = [...this.#groups.values()].flatMap(({ lines }) =>
      lines.flatMap(({ works: line, head }) => line.slice(head)),
    )
    this.#groups.clear()
    this.#rowsOfLevel.fill(0)
    this.#rows = 0
    this.#requests = 0
    return works
  }

  /** Takes from one line until the batch is full (false) or the line is empty (true). */
  #fill(batch: Taking, entry: Lines, line: Line, limits: TakeLimits, judge: Judge): boolean {
    const { members } = batch
    while (line.head < line.works.length) {
      const work = line.works[line.head] as Work
      const isOver = batch.rows + work.rows > limits.maxRows || batch.bytes + work.bytes.length > limits.maxBytes
      if (members.length > 0 && isOver) return false
      const verdict = judge(work, batch.rows + work.rows)
      if (verdict === 'close') return false
      line.head++
      entry.rows -= work.rows
      entry.requests--
      this.#rows -= work.rows
      this.#rowsOfLevel[line.level] = (this.#rowsOfLevel[line.level] as number) - work.rows
      this.#requests--
      if (verdict === 'drop') continue
      members.push(work)
      batch.rows += work.rows
      batch.bytes += work.bytes.length
      if (!entry.group.batchable || work.rows === 0) return false
    }
    return true
  }

  /** The line that is due: the one of the smallest rank, unless it would go before more urgent ones and its share is used up. */
  #choose(): { readonly entry: Lines; readonly line: Line; readonly urgentLevel: number } | undefined {
    let due: { entry: Lines; line: Line } | undefined
    let urgent: { entry: Lines; line: Line } | undefined
    let dueRank = Number.POSITIVE_INFINITY
    let urgentMs = Number.POSITIVE_INFINITY
    for (const entry of this.#groups.values()) {
      for (const line of entry.lines) {
        const first = line.works[line.head]
        if (first === undefined) continue
        const rank = rankOf(line.level, first.arrivedMs, this.#ageingMs)
        if (rank < dueRank) {
          due = { entry, line }
          dueRank = rank
        }
        const isMoreUrgent = urgent === undefined || line.level < urgent.line.level
        if (isMoreUrgent || (line.level === urgent?.line.level && first.arrivedMs < urgentMs)) {
          urgent = { entry, line }
          urgentMs = first.arrivedMs
        }
      }
    }
    if (due === undefined || urgent === undefined) return undefined
    const chosen = due.line.level > urgent.line.level && !this.#aged.isOpen ? urgent : due
    return { ...chosen, urgentLevel: urgent.line.level }
  }

  #tidy(entry: Lines): void {
    if (entry.requests === 0) {
      entry.deadlineMs = Number.POSITIVE_INFINITY
      // Empty lines are kept while they are the only ones, which spares making them anew for each batch.
      if (this.#groups.size > 1) this.#groups.delete(entry.group)
    }
    for (const line of entry.lines) compact(line)
  }
}

interface Taking {
  readonly members: Work[]
  rows: number
  bytes: number
}

function lineOf(lines: Line[], level: number): Line {
  let at = 0
  for (; at < lines.length; at++) {
    const line = lines[at] as Line
    if (line.level === level) return line
    if (line.level > level) break
  }
  const line = { level, works: [], head: 0 }
  lines.splice(at, 0, line)
  return line
}

function compact(line: Line): void {
  if (line.head === line.works.length) {
    line.works.length = 0
    line.head = 0
  } else if (line.head > COMPACT_FROM && line.head * 2 > line.works.length) {
    line.works.splice(0, line.head)
    line.head = 0
  }
}
