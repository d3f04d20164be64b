/** From output tensors in raw form to a table, in the order of the part's rows; a row whose call failed is null. */

import * as types from '@duckdb/node-api'
import {
  ARRAY,
  type DuckDBAppender,
  DuckDBArrayValue,
  DuckDBDataChunk,
  type DuckDBType,
  VARCHAR,
} from '@duckdb/node-api'
import binding from '@duckdb/node-bindings'
import { type Datatype, datatypeBytes } from '@slipway/onnx'
import type { CallErrors } from './reader-protocol.ts'
import type { OutputTensor, Recipe } from './recipe.ts'

const CHUNK_ROWS = 2048

const elementTypes: Readonly<Record<Exclude<Datatype, 'BF16'>, DuckDBType>> = {
  BOOL: types.BOOLEAN,
  UINT8: types.UTINYINT,
  UINT16: types.USMALLINT,
  UINT32: types.UINTEGER,
  UINT64: types.UBIGINT,
  INT8: types.TINYINT,
  INT16: types.SMALLINT,
  INT32: types.INTEGER,
  INT64: types.BIGINT,
  FP16: types.FLOAT,
  FP32: types.FLOAT,
  FP64: types.DOUBLE,
  BYTES: types.VARCHAR,
}

/** Takes answers in the order of the rows. */
export class AnswerTable {
  readonly #outputs: readonly OutputTensor[]
  readonly #appender: DuckDBAppender
  readonly #types: readonly DuckDBType[]
  readonly #hasProblems: boolean

  constructor({ outputs, writesErrors }: Pick<Recipe, 'outputs' | 'writesErrors'>, appender: DuckDBAppender) {
    this.#outputs = outputs
    this.#hasProblems = writesErrors
    this.#appender = appender
    this.#types = [
      ...outputs.map(({ datatype, width }) => ARRAY(elementTypes[datatype as Exclude<Datatype, 'BF16'>], width)),
      ...(writesErrors ? [VARCHAR] : []),
    ]
  }

  /** Adds the answers of `rows` rows: the tensors as the model gave them, and which of the rows have none. */
  add(tensors: readonly Buffer[], rows: number, errors: CallErrors): void {
    const columns = this.#outputs.map((output, index) => readOutput(output, tensors[index] ?? Buffer.alloc(0), rows))
    const problems = new Map(errors)
    for (let from = 0; from < rows; from += CHUNK_ROWS) {
      const to = Math.min(rows, from + CHUNK_ROWS)
      const chunk = DuckDBDataChunk.create(this.#types, to - from)
      for (const [place, column] of columns.entries()) column.write(chunk, place, from, to, problems)
      if (this.#hasProblems) writeProblems(chunk, columns.length, from, to, problems)
      this.#appender.appendDataChunk(chunk)
    }
  }

  /** Everything is in the table. */
  close(): void {
    this.#appender.closeSync()
  }
}

interface OutputColumn {
  write(chunk: DuckDBDataChunk, place: number, from: number, to: number, problems: ReadonlyMap<number, string>): void
}

function readOutput(output: OutputTensor, bytes: Buffer, rows: number): OutputColumn {
  if (output.datatype === 'BYTES') return textColumn(output, bytes, rows)
  const isHalf = output.datatype === 'FP16'
  const lineBytes = output.width * datatypeBytes(output.datatype)
  if (bytes.length !== rows * lineBytes) {
    throw new RangeError(`output ${output.name} has ${bytes.length} bytes for ${rows} rows of ${lineBytes}`)
  }
  const values = isHalf ? widened(bytes) : bytes
  const step = isHalf ? lineBytes * 2 : lineBytes
  return {
    write: (chunk, place, from, to, problems) => {
      const vector = binding.data_chunk_get_vector(chunk.chunk, place)
      const child = binding.array_vector_get_child(vector)
      const start = values.byteOffset + from * step
      binding.copy_data_to_vector(child, 0, values.buffer as ArrayBuffer, start, (to - from) * step)
      if (problems.size > 0) writeValidity(vector, from, to, problems)
    },
  }
}

function writeProblems(
  chunk: DuckDBDataChunk,
  place: number,
  from: number,
  to: number,
  problems: ReadonlyMap<number, string>,
): void {
  if (problems.size > 0) {
    const texts = Array.from({ length: to - from }, (_, index) => problems.get(from + index) ?? null)
    chunk.setColumnValues(place, texts)
    return
  }
  const vector = binding.data_chunk_get_vector(chunk.chunk, place)
  binding.vector_ensure_validity_writable(vector)
  binding.copy_data_to_vector_validity(vector, 0, new Uint8Array(CHUNK_ROWS / 8).buffer, 0, CHUNK_ROWS / 8)
}

function widened(bytes: Buffer): Buffer {
  const halves = new Float16Array(new Uint8Array(bytes).buffer)
  return Buffer.from(Float32Array.from(halves).buffer)
}

/** A bit for each row, in 64-bit words: 1 where there is a value. */
function writeValidity(
  vector: ReturnType<typeof binding.data_chunk_get_vector>,
  from: number,
  to: number,
  problems: ReadonlyMap<number, string>,
): void {
  const bits = new Uint8Array(CHUNK_ROWS / 8).fill(0xff)
  for (let row = from; row < to; row++) {
    if (!problems.has(row)) continue
    const index = row - from
    bits[index >> 3] = (bits[index >> 3] as number) & ~(1 << (index & 7))
  }
  binding.vector_ensure_validity_writable(vector)
  binding.copy_data_to_vector_validity(vector, 0, bits.buffer, 0, bits.length)
}

function textColumn({ width }: OutputTensor, bytes: Buffer, rows: number): OutputColumn {
  const texts: string[] = []
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at)
    texts.push(bytes.toString('utf8', at + 4, at + 4 + length))
    at += 4 + length
  }
  if (texts.length !== rows * width) throw new RangeError(`${texts.length} texts for ${rows} rows of ${width}`)
  return {
    write: (chunk, place, from, to, problems) => {
      const values = Array.from({ length: to - from }, (_, index) => {
        const row = from + index
        return problems.has(row) ? null : new DuckDBArrayValue(texts.slice(row * width, (row + 1) * width))
      })
      chunk.setColumnValues(place, values)
    },
  }
}
