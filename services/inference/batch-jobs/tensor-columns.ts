/** From columns of a database to tensors in raw form, without an object for a row: little-endian, row-major. */
import type { DuckDBDataChunk } from '@duckdb/node-api'
import binding from '@duckdb/node-bindings'
import { datatypeBytes } from '@slipway/onnx'
import { type InputTensor, widthOf } from './recipe.ts'

type Words = Uint8Array | Uint16Array | Uint32Array

/** Gathers the rows of one input tensor. */
export interface TensorRows {
  /** Adds the rows of a chunk, from the columns that begin at `column`. */
  add(chunk: DuckDBDataChunk, column: number, rows: number): void
  /** Takes the first rows away, as a tensor, whose memory is used again after `uses` more were taken. */
  take(rows: number): Buffer
}

/** Makes the place where a tensor's rows gather; `capacity` rows at most are there at once, `uses` tensors in use. */
export function createTensorRows(tensor: InputTensor, capacity: number, uses: number): TensorRows {
  return tensor.datatype === 'BYTES' ? new TextRows(tensor) : new NumberRows(tensor, capacity, uses)
}

/** Numbers of a fixed length. They are copied as words, so that no bit of them changes. */
class NumberRows implements TensorRows {
  readonly #tensor: InputTensor
  readonly #rowBytes: number
  readonly #width: number
  readonly #buffer: ArrayBuffer
  readonly #taken: (Buffer | undefined)[]
  #next = 0
  #rows = 0

  constructor(tensor: InputTensor, capacity: number, uses: number) {
    this.#tensor = tensor
    this.#taken = new Array(uses).fill(undefined)
    this.#width = widthOf(tensor)
    this.#rowBytes = this.#width * datatypeBytes(tensor.datatype)
    this.#buffer = new ArrayBuffer(capacity * this.#rowBytes)
  }

  add(chunk: DuckDBDataChunk, column: number, rows: number): void {
    if ((this.#rows + rows) * this.#rowBytes > this.#buffer.byteLength)
      throw new RangeError('more rows than there is room for')
    if (this.#tensor.isList) this.#addLists(chunk, column, rows)
    else for (let index = 0; index < this.#width; index++) this.#addColumn(chunk, column + index, index, rows)
    this.#rows += rows
  }

  take(rows: number): Buffer {
    const bytes = rows * this.#rowBytes
    const all = new Uint8Array(this.#buffer)
    const taken = this.#memory(bytes)
    taken.set(all.subarray(0, bytes))
    all.copyWithin(0, bytes, this.#rows * this.#rowBytes)
    this.#rows -= rows
    return taken
  }

  #memory(bytes: number): Buffer {
    const place = this.#next++ % this.#taken.length
    let memory = this.#taken[place]
    if (memory === undefined || memory.length < bytes) memory = Buffer.allocUnsafeSlow(bytes)
    this.#taken[place] = memory
    return memory.subarray(0, bytes)
  }

  #addColumn(chunk: DuckDBDataChunk, column: number, place: number, rows: number): void {
    const vector = binding.data_chunk_get_vector(chunk.chunk, column)
    const { datatype } = this.#tensor
    const bytes = datatypeBytes(datatype)
    const start = this.#rows * this.#rowBytes + place * bytes
    if (datatype === 'FP16') {
      const source = view(Float32Array, binding.vector_get_data(vector, rows * 4), rows)
      const target = new Float16Array(this.#buffer)
      stride(source, target, start / 2, this.#width)
    } else if (bytes === 8) {
      const source = view(Uint32Array, binding.vector_get_data(vector, rows * 8), rows * 2)
      strideTwo(source, new Uint32Array(this.#buffer), start / 4, this.#width * 2)
    } else {
      const Words = bytes === 4 ? Uint32Array : bytes === 2 ? Uint16Array : Uint8Array
      const source = view<Words>(Words, binding.vector_get_data(vector, rows * bytes), rows)
      stride(source, new Words(this.#buffer), start / bytes, this.#width)
    }
  }

  #addLists(chunk: DuckDBDataChunk, column: number, rows: number): void {
    const child = binding.array_vector_get_child(binding.data_chunk_get_vector(chunk.chunk, column))
    const isHalf = this.#tensor.datatype === 'FP16'
    const elementBytes = isHalf ? 4 : datatypeBytes(this.#tensor.datatype)
    const lineBytes = this.#width * elementBytes
    const source = binding.vector_get_data(child, rows * lineBytes)
    const at = this.#rows * this.#rowBytes
    if (!isHalf) new Uint8Array(this.#buffer).set(source, at)
    else new Float16Array(this.#buffer, at, rows * this.#width).set(new Float32Array(source.slice().buffer))
  }
}

/** Texts: a 4-byte length and that many bytes each. */
class TextRows implements TensorRows {
  readonly #tensor: InputTensor
  #rows: Buffer[] = []

  constructor(tensor: InputTensor) {
    this.#tensor = tensor
  }

  add(chunk: DuckDBDataChunk, column: number, rows: number): void {
    const columns = this.#tensor.columns.map((_, index) => chunk.getColumnValues(column + index))
    for (let row = 0; row < rows; row++) {
      this.#rows.push(Buffer.concat(columns.flatMap((values) => textsOf(values[row])).flatMap(elementOf)))
    }
  }

  take(rows: number): Buffer {
    return Buffer.concat(this.#rows.splice(0, rows))
  }
}

function textsOf(value: unknown): string[] {
  if (typeof value === 'object' && value !== null && 'items' in value) return (value.items as unknown[]).map(String)
  return [String(value ?? '')]
}

function elementOf(text: string): Buffer[] {
  const bytes = Buffer.from(text)
  const length = Buffer.alloc(4)
  length.writeUInt32LE(bytes.length)
  return [length, bytes]
}

function view<T>(
  Type: new (buffer: ArrayBufferLike, offset: number, length: number) => T,
  bytes: Uint8Array,
  length: number,
): T {
  return new Type(bytes.buffer, bytes.byteOffset, length)
}

type Numbers = Words | Float32Array | Float16Array

function stride(source: Numbers, target: Numbers, start: number, step: number): void {
  let at = start
  for (let row = 0; row < source.length; row++, at += step) target[at] = source[row] as number
}

function strideTwo(source: Uint32Array, target: Uint32Array, start: number, step: number): void {
  let at = start
  for (let half = 0; half < source.length; half += 2, at += step) {
    target[at] = source[half] as number
    target[at + 1] = source[half + 1] as number
  }
}
