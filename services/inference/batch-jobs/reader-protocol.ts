/** What the service and a reader process say to each other. A reader does one task at a time. */
import type { Format, Part, Plan, Recipe } from './recipe.ts'

/** Bounds of one reader process. */
export interface ReaderLimits {
  readonly memoryMiB: number
  /** Where it puts what does not fit into memory, and slices of text files. */
  readonly tempDirectory: string
  /** Calls that may be on their way at once. */
  readonly callsInFlight: number
}

/** Something to do. */
export type ReaderTask =
  | { readonly kind: 'describe'; readonly format: Format; readonly path: string }
  | { readonly kind: 'cut'; readonly recipe: Recipe; readonly files: readonly string[] }
  | {
      readonly kind: 'write'
      readonly recipe: Recipe
      readonly part: Part
      readonly source: string
      readonly target: string
    }
  | { readonly kind: 'inspect'; readonly path: string }

/** Name and SQL type of a column. */
export interface Column {
  readonly name: string
  readonly type: string
}

/** What is known of a part that is written. */
export interface WrittenPart {
  readonly rows: number
  readonly rowsFailed: number
  readonly sizeBytes: number
  readonly digest: string
}

/** What a task gives. */
export interface ReaderResults {
  readonly describe: readonly Column[]
  readonly cut: Plan
  readonly write: WrittenPart
  readonly inspect: WrittenPart
}

/** Rows of a call that have no answer, by their place in it, and why. */
export type CallErrors = readonly (readonly [row: number, message: string])[]

/** From the service. */
export type ToReader =
  | { readonly kind: 'task'; readonly task: ReaderTask }
  /** The pieces are the output tensors in the recipe's order. */
  | { readonly kind: 'answer'; readonly call: number; readonly elapsedMs: number; readonly errors: CallErrors }

/** From the reader. */
export type FromReader =
  /** The pieces are the input tensors in the recipe's order. */
  | { readonly kind: 'call'; readonly call: number; readonly rows: number; readonly first: number }
  | { readonly kind: 'done'; readonly result: ReaderResults[keyof ReaderResults] }
  /** `isInput`: what is wrong is in the input, and trying again will not help. */
  | { readonly kind: 'failed'; readonly message: string; readonly isInput: boolean }
