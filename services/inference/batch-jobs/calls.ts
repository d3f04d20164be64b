/** Sends rows as calls, a few on their way at once, and takes the answers in order. */
import type { DuckDBDataChunk } from '@duckdb/node-api'
import { datatypeBytes } from '@slipway/onnx'
import type { AnswerTable } from './answer-table.ts'
import { CallSize } from './call-size.ts'
import type { CallErrors, ReaderLimits } from './reader-protocol.ts'
import { type InputTensor, type Part, type Recipe, widthOf } from './recipe.ts'
import { createTensorRows, type TensorRows } from './tensor-columns.ts'

const CHUNK_ROWS = 2048
const MAX_CALL_BYTES = 4 * 1024 * 1024

/** What came back for a call. */
export interface CallAnswer {
  readonly tensors: readonly Buffer[]
  readonly errors: CallErrors
  readonly elapsedMs: number
}

/** Asks for the answers to so many rows, of which the first is this one of the file. */
export type AskRows = (inputs: readonly Buffer[], rows: number, first: number) => Promise<CallAnswer>

/** What calls need. */
export interface CallsOptions {
  readonly recipe: Recipe
  readonly part: Part
  readonly limits: Pick<ReaderLimits, 'callsInFlight'>
  readonly ask: AskRows
}

/** What was learned of the size of calls; a new part of the same job goes on with it. */
const learned = { job: '', size: new CallSize() }

/** See the top of this file. */
export class Calls {
  readonly #options: CallsOptions
  readonly #answers: AnswerTable
  readonly #maxRows: number
  readonly #tensors: readonly TensorRows[]
  readonly #underWay: { readonly rows: number; readonly answer: Promise<CallAnswer> }[] = []
  #answeredMs = Number.NEGATIVE_INFINITY
  #waiting = 0
  #sent = 0
  /** Rows that have no answer. */
  failed = 0

  constructor(options: CallsOptions, answers: AnswerTable) {
    const { recipe, limits } = options
    this.#options = options
    this.#answers = answers
    this.#maxRows = maxCallRows(recipe)
    // A call that was answered has left this process, and with it its memory is free.
    const uses = limits.callsInFlight + 1
    this.#tensors = recipe.inputs.map((tensor) => createTensorRows(tensor, this.#maxRows + CHUNK_ROWS, uses))
    if (learned.job !== recipe.job) Object.assign(learned, { job: recipe.job, size: new CallSize() })
  }

  /** Takes the rows of a chunk, whose columns are those of the tensors in order. */
  async add(chunk: DuckDBDataChunk): Promise<void> {
    const rows = chunk.rowCount
    let column = 0
    for (const [index, { columns }] of this.#options.recipe.inputs.entries()) {
      this.#tensors[index]?.add(chunk, column, rows)
      column += columns.length
    }
    this.#waiting += rows
    while (this.#waiting >= this.#callRows) await this.#send(this.#callRows)
  }

  /** Sends what is left and waits for all answers. */
  async end(): Promise<void> {
    if (this.#waiting > 0) await this.#send(this.#waiting)
    while (this.#underWay.length > 0) await this.#settle()
  }

  get #callRows(): number {
    return Math.min(learned.size.rows, this.#maxRows)
  }

  async #send(rows: number): Promise<void> {
    const { limits, ask, part } = this.#options
    while (this.#underWay.length >= limits.callsInFlight) await this.#settle()
    const inputs = this.#tensors.map((tensor) => tensor.take(rows))
    const answer = ask(inputs, rows, part.first + this.#sent)
    // It is awaited in its turn; until then a failure must not count as one that nobody handles.
    answer.catch(() => undefined)
    this.#underWay.push({ rows, answer })
    this.#waiting -= rows
    this.#sent += rows
  }

  async #settle(): Promise<void> {
    const first = this.#underWay.shift()
    if (first === undefined) return
    const { tensors, errors, elapsedMs } = await first.answer
    this.failed += errors.length
    const nowMs = performance.now()
    learned.size.observe(first.rows, Math.min(elapsedMs, nowMs - this.#answeredMs))
    this.#answeredMs = nowMs
    this.#answers.add(tensors, first.rows, errors)
  }
}

function maxCallRows({ inputs, rowsPerCall }: Recipe): number {
  const rowBytes = inputs.reduce((sum, tensor) => sum + bytesOfRow(tensor), 0)
  return Math.max(1, Math.min(rowsPerCall, Math.floor(MAX_CALL_BYTES / Math.max(1, rowBytes))))
}

function bytesOfRow(tensor: InputTensor): number {
  return widthOf(tensor) * datatypeBytes(tensor.datatype)
}
