import type { Now } from './batch-former.ts'
import type { Executor } from './executors/executor.ts'

/** An executor, and when it will have done what it was given as far as is known, by `performance.now()`. */
export interface Seat {
  readonly executor: Executor
  freeAtMs: number
  /** When it answered its last batch. */
  doneMs: number
}

/** Time until an executor has done what it was given; 0 when it is idle. */
export function busyMs({ executor, freeAtMs }: Seat, { ms }: Now): number {
  return executor.running === 0 ? 0 : Math.max(0.001, freeAtMs - ms)
}
