/**
 * How a batch lies in the memory that the event loop and an executor's thread share.
 *
 * A slot is one batch on its way: an input buffer that the event loop writes and an output buffer that the thread
 * writes, each in turn, so neither ever waits for the other. Whoever needs more room than a buffer has replaces it by a larger one and
 * sends that along. All numbers in the heads are 32-bit words; each tensor begins at a multiple of 8 bytes.
 *
 *     input:   [group, rows, bytes of tensor 0, bytes of tensor 1, …]  tensor 0  tensor 1 …
 *     output:  [compute time in microseconds, (bytes, rank, dimensions…) of each tensor]  tensor 0  tensor 1 …
 */
import type { Datatype } from '@slipway/onnx'

/** Slots of one executor: a batch that runs, one that waits for it, one whose answers are being read. */
export const SLOTS = 3

/** Batches of one executor that may be under way at once. */
export const MAX_RUNNING = 2

/** A larger buffer is given up after its batch, so that one large request does not hold memory for ever. */
export const MAX_KEPT_BUFFER_BYTES = 4 * 1024 * 1024

/** Words before the tensors' lengths in an input buffer. */
export const INPUT_HEAD_WORDS = 2

/** One tensor of a group: all of its shape but the rows, -1 standing for them. */
export interface GroupTensor {
  readonly name: string
  readonly datatype: Datatype
  /** The shape, -1 in first place where rows of several requests follow each other. */
  readonly dims: readonly number[]
}

/** Requests that can run together: same inputs but for the number of rows, same outputs wanted. */
export interface GroupDescription {
  /** Identifies the group to the executor. */
  readonly id: number
  readonly inputs: readonly GroupTensor[]
  /** Names of the outputs wanted, in order. */
  readonly outputs: readonly string[]
}

/** What the event loop says to an executor's thread; a bare number means "run what is in this slot". */
export type ToThread =
  | number
  | { readonly kind: 'group'; readonly group: GroupDescription }
  | { readonly kind: 'forget-groups' }
  | { readonly kind: 'input-buffer'; readonly slot: number; readonly buffer: SharedArrayBuffer }

/** What an executor's thread says; a bare number means "the answers are in this slot". */
export type FromThread =
  | number
  | { readonly kind: 'ready' }
  | { readonly kind: 'refused'; readonly message: string }
  | { readonly kind: 'output-buffer'; readonly slot: number; readonly buffer: SharedArrayBuffer }
  | { readonly kind: 'failed'; readonly slot: number; readonly message: string }

/** What a thread is started with. */
export interface ThreadData {
  /** The bytes of the model, or the path of its file where weights lie in files beside it. */
  readonly model: Uint8Array | string
  /** Threads that one run may use. */
  readonly intraOpThreads: number
}

/** The next multiple of 8. */
export function align(bytes: number): number {
  return (bytes + 7) & ~7
}
