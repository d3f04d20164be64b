import type { GroupDescription } from './layout.ts'

/** The tensors of one request, all in one buffer: the first byte and the byte after the last of each, in the group's order. */
export interface BatchMember {
  readonly bytes: Buffer
  readonly offsets: readonly number[]
}

/** Requests that run together. */
export interface Batch<M extends BatchMember = BatchMember> {
  readonly group: GroupDescription
  readonly members: readonly M[]
  /** Rows of all members. */
  readonly rows: number
}

/** One output of a batch, in memory that is the executor's own. */
export interface OutputView {
  readonly dims: readonly number[]
  readonly bytes: Buffer
}

/** What a batch gave. */
export interface BatchResult {
  readonly outputs: readonly OutputView[]
  /** Time inside the model runtime. */
  readonly computeMicros: number
}

/** Who hears how batches end; each batch is heard of once. */
export interface ExecutorEvents {
  /** The batch was answered; the views are good until this returns. */
  done(batch: Batch, result: BatchResult): void
  /** The runtime refused the batch; the executor goes on. */
  failed(batch: Batch, message: string): void
  /** The executor is gone, and with it these batches. Not heard after `close`. */
  died(batches: readonly Batch[], reason: string): void
}

/**
 * Runs batches of one model somewhere that is not the event loop. Promises:
 *
 * 1. Batches are answered in the order in which they were given.
 * 2. No more than `slots` are under way; giving one more is a bug.
 * 3. A batch that the runtime refuses leaves the executor whole; whatever else goes wrong inside ends the executor, and nothing outside it.
 */
export interface Executor {
  readonly slots: number
  /** Batches under way. */
  readonly running: number
  run(batch: Batch): void
  /** Ends it, at once and for good. */
  close(): Promise<void>
}

/** Starts an executor for a model (its bytes, or its path). Rejects with the runtime's text when it refuses the model. */
export type StartExecutor = (options: {
  readonly model: Uint8Array | string
  readonly intraOpThreads: number
  readonly events: ExecutorEvents
}) => Promise<Executor>
