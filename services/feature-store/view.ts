/** A feature view as reads and writes need it. */
import type { ValueType } from '@slipway/proto/slipway/features/v1/value'

/** A named column of a declared type. */
export interface TypedColumn {
  readonly name: string
  readonly type: ValueType
}

/** One version of a view. All versions of a view share its rows, and their features begin alike. */
export interface ViewVersion {
  /** The view's rows in all stores; never used again for another view. */
  readonly tableId: number
  /** The view's id, without `featureViews/`. */
  readonly id: string
  readonly digest: string
  readonly keys: readonly TypedColumn[]
  readonly features: readonly TypedColumn[]
  /** Undefined: rows of any age are fresh. */
  readonly ttlMicros: bigint | undefined
}
