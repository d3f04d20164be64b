/** How long a request that arrives would wait, by which it is taken or refused. Pure. */

import type { LatencyModel } from './latency-model.ts'

/** What is before a request. */
export interface Backlog {
  /** Rows that go before it. */
  readonly rows: number
  /** The most rows of one batch. */
  readonly batchRows: number
  /** Time until each executor has done what it was given, all added up. */
  readonly busyMs: number
  readonly executors: number
  readonly latency: Pick<LatencyModel, 'predict'>
  /** What lies between two batches of an executor. */
  readonly gapMs: number
}

/** The time until a request's batch begins: all that is before it, shared by the executors. */
export function expectedWaitMs({ rows, batchRows, busyMs, executors, latency, gapMs }: Backlog): number {
  const rest = rows % batchRows
  const full = Math.floor(rows / batchRows)
  const beforeMs = full * (latency.predict(batchRows) + gapMs) + (rest > 0 ? latency.predict(rest) + gapMs : 0)
  return (beforeMs + busyMs) / Math.max(1, executors)
}
