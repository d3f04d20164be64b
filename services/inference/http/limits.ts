const KIBIBYTE = 1024
const MEBIBYTE = 1024 * KIBIBYTE

/** What the HTTP server accepts and how long it waits; every limit has a name. */
export interface HttpLimits {
  /** Largest body of a request, before and after decompression. Above it: 413. */
  readonly maxRequestBytes: number
  /** Largest JSON part of a request, and the most tensor bytes that are written as JSON; what is larger goes in binary form. */
  readonly maxJsonBytes: number
  /** Largest body of what is no prediction. Above it: 413. */
  readonly maxQuestionBytes: number
  /** Largest answer, in bytes of its tensors. */
  readonly maxAnswerBytes: number
  /** Bytes of bodies that are held at once, over all requests. Above it: 429. */
  readonly maxHeldBytes: number
  /** Bytes of a body that is too large which are still read and thrown away, so that its sender gets to see the refusal. */
  readonly maxDiscardedBytes: number
  /** Connections at once; the ones after that are closed. */
  readonly maxConnections: number
  /** Header of one request. Above it: 431. */
  readonly maxHeaderBytes: number
  /** From a request's first byte to the end of its header. After it: 408. */
  readonly headerTimeoutMs: number
  /** From a request's first byte to its last. After it: 408. */
  readonly requestTimeoutMs: number
  /** Longest that a call may take whose caller named no `timeout`. */
  readonly callTimeoutMs: number
  /** How long a connection without a request stays open. */
  readonly keepAliveMs: number
  /** How long a caller may take to read its answer. */
  readonly writeTimeoutMs: number
  /** How long the calls in flight have when the server stops, unless `stop` says otherwise. */
  readonly drainGraceMs: number
}

/** The limits of a server that names none. */
export const defaultHttpLimits: HttpLimits = {
  maxRequestBytes: 64 * MEBIBYTE,
  maxJsonBytes: 16 * MEBIBYTE,
  maxQuestionBytes: 256 * KIBIBYTE,
  maxAnswerBytes: 64 * MEBIBYTE,
  maxHeldBytes: 256 * MEBIBYTE,
  maxDiscardedBytes: 64 * MEBIBYTE,
  maxConnections: 4096,
  maxHeaderBytes: 16 * KIBIBYTE,
  headerTimeoutMs: 10_000,
  requestTimeoutMs: 60_000,
  callTimeoutMs: 600_000,
  keepAliveMs: 75_000,
  writeTimeoutMs: 60_000,
  drainGraceMs: 10_000,
}
