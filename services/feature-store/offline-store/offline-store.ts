/** The port for the history of all rows, and for training sets made from it. */
import type { Part } from '../journal.ts'
import type { Visibility } from '../rule.ts'
import type { ViewVersion } from '../view.ts'

/** One feature column of a training set. */
export interface JoinColumn {
  readonly tableId: number
  /** Place of the feature in its view. */
  readonly index: number
  /** Name of the column in the training set. */
  readonly name: string
}

/** What a training set is made from. */
export interface JoinTask {
  /** Parquet file with a column for each join key and one of the times. */
  readonly spinePath: string
  readonly timeColumn: string
  readonly views: readonly ViewVersion[]
  /** Folder of the parts. */
  readonly partsDirectory: string
  readonly parts: readonly Part[]
  readonly columns: readonly JoinColumn[]
  readonly visibility: Visibility
  /** Only rows with an earlier created time are looked at; microseconds since the epoch. */
  readonly createdBeforeMicros: bigint
  /** Only rows up to this revision are looked at. */
  readonly revision: bigint
  /** Add a column `{feature}__event_time` for each feature. */
  readonly includeTimes: boolean
  /** Where the training set is written, Parquet. */
  readonly outputPath: string
}

/** What to move from the journal into a part. */
export interface FlushTask {
  readonly databasePath: string
  readonly view: ViewVersion
  readonly lastRevision: bigint
  /** The part's folder. */
  readonly directory: string
}

/** Told how far a task is, 0 to 1. */
export type OnProgress = (done: number, stage: string) => void

/**
 * What every adapter promises:
 *
 * 1. `flush` writes the journal's rows of a view up to a revision to one part, complete when its name is given; a part of
 *    the same rows has the same name.
 * 2. `join` gives one row for every row of the spine, in its order, by the rule of `rule.ts`.
 * 3. The same task over the same rows writes the same bytes, however the rows are spread over parts.
 * 4. A task that is aborted or dies leaves no file under the name that it would have given.
 */
export interface OfflineStore {
  /** Undefined when the journal has no rows of the view. */
  flush(task: FlushTask): Promise<Part | undefined>
  /** Gives the number of rows. INVALID_ARGUMENT when the spine lacks a column or has one of a wrong type. */
  join(task: JoinTask, options: { onProgress: OnProgress; signal: AbortSignal }): Promise<number>
  close(): Promise<void>
}
