/** A piece of content by what it is: `sha256:{64 hex digits}`. */
export type Digest = string

/** Digest and size of stored content. */
export interface StoredBlob {
  readonly digest: Digest
  readonly sizeBytes: number
}

/** Where reading starts. */
export interface ReadOptions {
  /** The first byte wanted, default 0. */
  readonly offset?: number
}

/**
 * The port for content addressed by its SHA-256. What every adapter promises, and the contract test checks:
 *
 * 1. Content that `put` or `commit` acknowledged is there after the loss of the process or of power.
 * 2. `stat` and `read` see a blob whole or not at all, never one that is being written.
 * 3. A read that ends without an error gave exactly the bytes of the digest (from the offset on). Changed or cut bytes
 *    end it with DATA_LOSS before its last piece is given.
 * 4. Storing content that is already there succeeds, from any number of writers at once, and repairs a damaged copy.
 * 5. An upload continues where it stopped, also in another process: `receivedBytes` counts bytes that survive the
 *    process. Bytes sent again are skipped; a gap is refused with OUT_OF_RANGE and changes nothing.
 * 6. A commit with the wrong digest fails with INVALID_ARGUMENT and drops the upload, which starts again from 0. A
 *    commit of content that is there already succeeds, whatever else arrived, and drops the upload as well.
 * 7. Content is never deleted, and what an upload left behind goes with `sweep` only.
 */
export interface BlobStore {
  /** Begins an upload or continues it. Several handles of one upload are one upload. */
  stage(uploadId: string): Promise<StagedBlob>
  /** Stores content in one go. */
  put(content: AsyncIterable<Uint8Array> | Uint8Array): Promise<StoredBlob>
  /** Size of a blob, undefined when there is none of that digest. */
  stat(digest: Digest): Promise<{ readonly sizeBytes: number } | undefined>
  /** Reads a blob; NOT_FOUND when there is none, OUT_OF_RANGE when the offset lies behind its end. */
  read(digest: Digest, options?: ReadOptions): AsyncIterable<Uint8Array>
  /** Drops unfinished uploads that nobody has touched for so long; returns how many. */
  sweep(options: { readonly idleMs: number }): Promise<number>
}

/** An upload that has not been committed. */
export interface StagedBlob {
  /** Bytes that arrived and are kept. */
  readonly receivedBytes: number
  /** Adds a piece that starts at `offset`, at most `receivedBytes`; what arrived already is skipped. */
  append(offset: number, chunk: Uint8Array): Promise<void>
  /** Checks the whole content against its digest and keeps it. */
  commit(expectedDigest: Digest): Promise<StoredBlob>
  /** Drops what arrived. */
  abort(): Promise<void>
}

/** Whether a text has the form of a digest. */
export function isDigest(text: string): boolean {
  return /^sha256:[0-9a-f]{64}$/.test(text)
}
