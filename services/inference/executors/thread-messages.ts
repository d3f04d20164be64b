/** What the event loop and an executor's thread say to each other; tensors lie in memory that they share (`layout.ts`). */
import type { GroupDescription } from './layout.ts'

/** Slots of one executor: a batch that runs, one that waits for it, one whose answers are being read. */
export const SLOTS = 3

/** Batches of one executor that may be under way at once. */
export const MAX_RUNNING = 2

/** A model on its way to a thread; its bytes are handed over, so that sending them copies nothing. */
export interface ModelToOpen {
  readonly kind: 'open'
  readonly model: ArrayBuffer | string
  readonly intraOpThreads: number
}

/** What the event loop says; a bare number means "run what is in this slot". */
export type ToThread =
  | number
  | ModelToOpen
  | { readonly kind: 'group'; readonly group: GroupDescription }
  | { readonly kind: 'forget-groups' }
  /** Gives the model back; another one may be opened then. */
  | { readonly kind: 'close' }
  | { readonly kind: 'input-buffer'; readonly slot: number; readonly buffer: SharedArrayBuffer }

/** What the thread says; a bare number means "the answers are in this slot". */
export type FromThread =
  | number
  /** The model is open; the process has grown by so many bytes meanwhile. */
  | { readonly kind: 'ready'; readonly grownBytes: number }
  | { readonly kind: 'refused'; readonly message: string }
  | { readonly kind: 'closed' }
  | { readonly kind: 'output-buffer'; readonly slot: number; readonly buffer: SharedArrayBuffer }
  | { readonly kind: 'failed'; readonly slot: number; readonly message: string }
  | { readonly kind: 'skipped'; readonly slot: number }
