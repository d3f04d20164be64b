/** What crosses between the feature store and the process that runs DuckDB. */
import type { Part } from '../journal.ts'
import type { FlushTask, JoinTask } from './offline-store.ts'

/** Bounds of the process. */
export interface WorkerLimits {
  readonly threads: number
  readonly memoryMiB: number
  readonly tempDirectory: string
}

/** A task with a number of its own. */
export type WorkerTask =
  | { readonly id: number; readonly kind: 'flush'; readonly flush: FlushTask }
  | { readonly id: number; readonly kind: 'join'; readonly join: JoinTask }

/** A part, nothing to put into one, or the number of rows of a training set. */
export type WorkerResult = Part | undefined | number

/** Progress, the result, or why there is none; `invalid` when the caller's input is wrong. */
export type WorkerAnswer =
  | { readonly id: number; readonly done: number; readonly stage: string }
  | { readonly id: number; readonly result: WorkerResult }
  | { readonly id: number; readonly error: string; readonly invalid: boolean }
