const KIBIBYTE = 1024
const MEBIBYTE = 1024 * KIBIBYTE

/** What a server accepts and how long it waits; every limit has a name. */
export interface ServerLimits {
  /** Largest request message, after decompression. Above it: RESOURCE_EXHAUSTED. */
  readonly maxRequestBytes: number
  /** Largest answer message. Above it: RESOURCE_EXHAUSTED. */
  readonly maxResponseBytes: number
  /** Calls at a time on one connection; the caller's transport queues the rest. */
  readonly maxConcurrentStreams: number
  /**
   * Calls that the callers of one connection may give up within a moment, and how many a second for longer; beyond it the connection is
   * closed. A deadline that passes is a call that is given up. So many in a row may be refused for being one too many at a time.
   */
  readonly maxResetBurst: number
  readonly maxResetsPerSecond: number
  /** Header block of one request. */
  readonly maxMetadataBytes: number
  /** Bytes that a caller may send ahead on one stream. */
  readonly streamWindowBytes: number
  /** Bytes that a caller may send ahead on one connection. */
  readonly connectionWindowBytes: number
  /** Bytes that wait for the reader of a stream before writing should stop. */
  readonly streamBufferBytes: number
  /** Longest a unary call may run when its caller named no deadline. */
  readonly unaryTimeoutMs: number
  /** How long in-flight calls have when the server drains, unless `drain` says otherwise. */
  readonly drainGraceMs: number
  /** While draining, a stream on which nothing moved for so long is ended. */
  readonly drainQuietMs: number
  /** An idle connection is asked for a sign of life so often. */
  readonly keepaliveMs: number
  /** A connection that does not answer within this is closed. */
  readonly keepaliveTimeoutMs: number
}

/** The limits of a server that names none. */
export const defaultServerLimits: ServerLimits = {
  maxRequestBytes: 16 * MEBIBYTE,
  maxResponseBytes: 64 * MEBIBYTE,
  maxConcurrentStreams: 1024,
  maxResetBurst: 50_000,
  maxResetsPerSecond: 25_000,
  maxMetadataBytes: 16 * KIBIBYTE,
  streamWindowBytes: MEBIBYTE,
  connectionWindowBytes: 16 * MEBIBYTE,
  streamBufferBytes: MEBIBYTE,
  unaryTimeoutMs: 600_000,
  drainGraceMs: 10_000,
  drainQuietMs: 500,
  keepaliveMs: 60_000,
  keepaliveTimeoutMs: 20_000,
}

/** What a client accepts and how long it waits. */
export interface ClientLimits {
  /** Largest answer message. Above it: RESOURCE_EXHAUSTED. */
  readonly maxResponseBytes: number
  /** Largest request message. Above it: RESOURCE_EXHAUSTED. */
  readonly maxRequestBytes: number
  /** Bytes that the server may send ahead on one stream. */
  readonly streamWindowBytes: number
  /** Bytes that the server may send ahead on one connection. */
  readonly connectionWindowBytes: number
  /** Bytes that wait for the server before writing to a stream should stop. */
  readonly streamBufferBytes: number
  /** While calls are on a connection it is asked for a sign of life so often. */
  readonly keepaliveMs: number
  /** A connection that does not answer within this is given up. */
  readonly keepaliveTimeoutMs: number
  /** Wait before the second try to connect; it grows with each. */
  readonly minReconnectMs: number
  /** Longest wait before a try to connect. */
  readonly maxReconnectMs: number
}

/** The limits of a client that names none. */
export const defaultClientLimits: ClientLimits = {
  maxResponseBytes: 64 * MEBIBYTE,
  maxRequestBytes: 64 * MEBIBYTE,
  streamWindowBytes: MEBIBYTE,
  connectionWindowBytes: 16 * MEBIBYTE,
  streamBufferBytes: MEBIBYTE,
  keepaliveMs: 30_000,
  keepaliveTimeoutMs: 10_000,
  minReconnectMs: 100,
  maxReconnectMs: 5000,
}

/** Deadline of a unary or client-streaming call when neither the call nor the client names one. */
export const DEFAULT_TIMEOUT_MS = 30_000
