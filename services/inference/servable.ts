/** What answers the requests of one version: a model in executors, or a pipeline of them. */
import type { MessageInitShape } from '@bufbuild/protobuf'
import type { ModelEnsemblingSchema } from '@slipway/proto/inference/model_config'
import type { FindGroup } from './plan.ts'
import type { ModelSignature } from './signature.ts'
import type { Work } from './work-queue.ts'

/** What happened to the requests of one version so far, in requests unless said otherwise. */
export interface WorkCounts {
  /** Waiting now. */
  readonly queued: number
  /** Batches that ran. */
  readonly batches: number
  /** Rows in them. */
  readonly rows: number
  /** Refused before they ran: the deadline had passed or would have. */
  readonly expired: number
  /** Dropped before they ran: the caller was gone. */
  readonly cancelled: number
  /** Refused on arrival. */
  readonly shed: number
  /** Batches whose run began after a deadline in them. Stays 0. */
  readonly executedAfterDeadline: number
  /** Answered from the response cache, or with an equal request's answer; unset without a cache. */
  readonly cacheHits?: number
  /** Looked for in the response cache and not found. */
  readonly cacheMisses?: number
}

/**
 * A version that is ready. Promises:
 *
 * 1. Work that was offered is answered or failed, exactly once.
 * 2. Work whose caller is gone or whose deadline has passed never reaches an executor.
 * 3. After `drain` or `close` has resolved nothing of it is left, in this process or another.
 */
export interface Servable {
  /** `models/{model}/versions/{number}`. */
  readonly name: string
  readonly model: string
  /** The version's number in decimal digits. */
  readonly number: string
  readonly digest: string
  /** Bytes of its files. */
  readonly sizeBytes: number
  /** Memory that it takes, where that is known. */
  readonly memoryBytes?: number | undefined
  readonly signature: ModelSignature
  /** Format and runtime as `ModelMetadata` names them. */
  readonly platform: string
  /** Its steps, when it is a graph of models. */
  readonly ensemble?: MessageInitShape<typeof ModelEnsemblingSchema> | undefined
  /** True when it will not answer again until it is loaded anew. */
  readonly isQuarantined: boolean
  readonly counts: WorkCounts
  /** When it was last asked for, by `Date.now()`. */
  lastUsedMs: number
  /** The group of requests with these inputs and outputs. */
  readonly group: FindGroup
  /** Takes a request, or fails it at once. */
  offer(work: Work): void
  /** Answers what it has taken, then ends. */
  drain(): Promise<void>
  /** Ends at once; what waits is failed. */
  close(): Promise<void>
}
