import type { OutputView } from '../executors/executor.ts'

/** Bounds of the answers that are kept. */
export interface ResponseStoreLimits {
  /** Bytes of all answers, keys and dimensions included. */
  readonly maxBytes: number
  /** How long an answer is given again. */
  readonly ttlMs: number
}

/** What happened to the answers so far. */
export interface ResponseStoreCounts {
  readonly entries: number
  readonly bytes: number
  /** Let go to make room. */
  readonly evicted: number
  /** Let go because they were too old. */
  readonly expired: number
  /** Not taken: larger than an eighth of all that may be kept. */
  readonly tooLarge: number
}

interface Entry {
  readonly outputs: readonly OutputView[]
  readonly bytes: number
  readonly expiresMs: number
}

const ENTRY_OVERHEAD_BYTES = 256
const OUTPUT_OVERHEAD_BYTES = 128
const LARGEST_SHARE = 8

/** Answers by key, bounded in bytes and age; the longest unused go first. Times are of one monotonic clock, in milliseconds. */
export class ResponseStore {
  readonly #limits: ResponseStoreLimits
  /** In the order of their last use. */
  readonly #entries = new Map<string, Entry>()
  readonly #counts = { evicted: 0, expired: 0, tooLarge: 0 }
  #bytes = 0

  constructor(limits: ResponseStoreLimits) {
    this.#limits = limits
  }

  get counts(): ResponseStoreCounts {
    return { ...this.#counts, entries: this.#entries.size, bytes: this.#bytes }
  }

  /** The answer with this key, if it is not too old. */
  get(key: string, nowMs: number): readonly OutputView[] | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    this.#entries.delete(key)
    if (entry.expiresMs <= nowMs) {
      this.#bytes -= entry.bytes
      this.#counts.expired++
      return undefined
    }
    this.#entries.set(key, entry)
    return entry.outputs
  }

  /** Keeps an answer; the views must be the store's own. */
  put(key: string, outputs: readonly OutputView[], nowMs: number): void {
    const bytes = outputs.reduce(
      (sum, output) => sum + output.bytes.length + OUTPUT_OVERHEAD_BYTES,
      ENTRY_OVERHEAD_BYTES,
    )
    if (bytes > this.#limits.maxBytes / LARGEST_SHARE) {
      this.#counts.tooLarge++
      return
    }
    this.#bytes += bytes - (this.#entries.get(key)?.bytes ?? 0)
    this.#entries.delete(key)
    this.#entries.set(key, { outputs, bytes, expiresMs: nowMs + this.#limits.ttlMs })
    for (const [oldest, entry] of this.#entries) {
      if (this.#bytes <= this.#limits.maxBytes) return
      this.#entries.delete(oldest)
      this.#bytes -= entry.bytes
      this.#counts.evicted++
    }
  }
}
