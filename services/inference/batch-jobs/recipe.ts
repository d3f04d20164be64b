/** What a batch job does to every row, and the parts that its input was cut into: fixed once, read by every replica. */
import type { Datatype } from '@slipway/onnx'

/** How the files of an input are written. */
export type Format = 'parquet' | 'csv' | 'jsonl'

/** What stands for a value that is missing: the row is refused, or a number takes its place (`NaN` written as null). */
export type Missing = { readonly kind: 'refuse' } | { readonly kind: 'value'; readonly value: number | null }

/** A column that becomes a column of a tensor. */
export interface InputColumn {
  readonly column: string
  readonly missing: Missing
}

/** An input tensor and where its values are. */
export interface InputTensor {
  readonly name: string
  readonly datatype: Datatype
  /** Dimensions after the rows. */
  readonly dims: readonly number[]
  /** One column for each value of a row; or a single column of lists. */
  readonly columns: readonly InputColumn[]
  readonly isList: boolean
}

/** An output tensor and the columns that it fills. */
export interface OutputTensor {
  readonly name: string
  readonly datatype: Datatype
  /** Values of a row. */
  readonly width: number
  readonly columns: readonly { readonly name: string; readonly index: number }[]
}

/** A column that is copied into the results. */
export interface KeyColumn {
  readonly column: string
  /** The SQL type that it is given; empty: its own. */
  readonly type: string
}

/** What happens to each row. */
export interface Recipe {
  /** `batchJobs/{job}`. */
  readonly job: string
  /** `models/{model}/versions/{number}`. */
  readonly version: string
  readonly digest: string
  readonly format: Format
  readonly paths: readonly string[]
  readonly inputs: readonly InputTensor[]
  readonly outputs: readonly OutputTensor[]
  readonly keys: readonly KeyColumn[]
  /** Whether rows that cannot be predicted are written with an error; otherwise they fail the job. */
  readonly writesErrors: boolean
  readonly rowsPerPart: number
  readonly rowsPerCall: number
}

/** Consecutive rows of one file. */
export interface Part {
  /** The file's place in the plan's list. */
  readonly file: number
  /** The first row, from 0. */
  readonly first: number
  readonly rows: number
  /** In text files: where its first row begins, and how many bytes its rows have. */
  readonly offset: number
  readonly length: number
}

/** The parts of a job. */
export interface Plan {
  readonly files: readonly string[]
  readonly parts: readonly Part[]
  readonly rows: number
}

/** Parts of one job at most. */
export const MAX_PARTS = 100_000
/** Files of one job at most. */
export const MAX_FILES = 10_000

/** The column that holds why a row has no outputs. */
export const ERROR_COLUMN = 'error'

/** Values of one row of a tensor. */
export function widthOf({ dims }: Pick<InputTensor, 'dims'>): number {
  return dims.reduce((product, size) => product * size, 1)
}

/** Name of the file of a part. */
export function partFile(part: number): string {
  return `part-${String(part).padStart(5, '0')}.parquet`
}
