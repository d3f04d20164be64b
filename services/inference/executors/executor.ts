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
  /** Epoch milliseconds after which its run may not begin; it is skipped then. */
  readonly notAfterMs?: number
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
  /** From `run` to the beginning of the run: behind another batch, and on the way. */
  readonly waitMicros?: number
  /** Time to make tensors of the inputs before, and to take the outputs out after. */
  readonly inputMicros?: number
  readonly outputMicros?: number
  /** Epoch milliseconds at which the run began: what was compared with `notAfterMs`. */
  readonly beganMs?: number
}

/** Who hears how batches end; each batch is heard of once. */
export interface ExecutorEvents {
  /** The batch was answered; the views are good until this returns. */
  done(batch: Batch, result: BatchResult): void
  /** The runtime refused the batch; the executor goes on. */
  failed(batch: Batch, message: string): void
  /** The batch did not run: its time was up, or it was withdrawn. */
  skipped?(batch: Batch): void
  /** The executor is gone, and with it these batches. Not heard after `close`. */
  died(batches: readonly Batch[], reason: string): void
  /** It holds more memory than it may: it goes on, and should be replaced. May be heard again. */
  worn?(reason: string): void
}

/**
 * Runs batches of one model somewhere that is not the event loop. Promises:
 *
 * 1. Batches are answered in the order in which they were given.
 * 2. No more than `slots` are under way; giving one more is a bug.
 * 3. A batch that the runtime refuses leaves the executor whole; whatever else goes wrong inside ends the executor, and nothing outside it.
 * 4. A batch whose time was up before its run began, or that was withdrawn before, never runs.
 * 5. After `close` has resolved nothing of its model is left, and no process. It ends with the server, too, however that ends.
 */
export interface Executor {
  readonly slots: number
  /** Batches under way. */
  readonly running: number
  /** Bytes of memory that it holds, as well as its adapter can tell. */
  readonly memoryBytes: number
  run(batch: Batch): void
  /** Has a batch skipped that has not begun; no effect on another. */
  withdraw(batch: Batch): void
  /** Ends it, at once and for good. */
  close(): Promise<void>
}

/** What an executor is started with. */
export interface ExecutorStart {
  /** The model's name. */
  readonly name: string
  /** The bytes of the model, or the path of its file where weights lie in files beside it. */
  readonly model: Uint8Array | string
  /** Threads that one run may use. */
  readonly intraOpThreads: number
  readonly events: ExecutorEvents
  /** Gives up the start, which rejects. */
  readonly signal?: AbortSignal
}

/** Starts an executor for a model. Rejects with the runtime's text when it refuses the model. */
export type StartExecutor = (start: ExecutorStart) => Promise<Executor>

/** A model may take so long to load. */
export const START_LIMIT_MS = 120_000

/** JavaScript memory of an executor, beyond which it dies; tensors and models lie outside of it, strings within. */
export const MAX_HEAP_MIB = 1024

/** Groups of requests that an executor remembers; with one more all are introduced anew. */
export const MAX_KNOWN_GROUPS = 1024
