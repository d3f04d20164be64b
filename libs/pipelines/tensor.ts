/** Tensors, the values of their rows, and back. */
import { type CelInput, type CelList, type CelUint, celUint, isCelList, isCelUint } from '@bufbuild/cel'
import { type Datatype, datatypeBytes } from '@slipway/onnx'
import { ONE, type Size } from './cost.ts'
import { ExpressionError } from './expression-error.ts'
import { fromHalf, toHalf } from './half.ts'

/** A tensor in raw form: little-endian, row-major; BYTES as elements of a 4-byte length and that many bytes. */
export interface Tensor {
  readonly datatype: Datatype
  readonly shape: readonly number[]
  readonly bytes: Buffer
}

/** The values of a tensor by row, for expressions. */
export interface Rows {
  /** Rows; undefined for a tensor without dimensions, which has the same value in every row. */
  readonly count: number | undefined
  /** How large the value of any row is. */
  readonly size: Size
  read(row: number): CelInput
}

type Read = (view: DataView, at: number) => CelInput

const readers: Readonly<Partial<Record<Datatype, Read>>> = {
  BOOL: (view, at) => view.getUint8(at) !== 0,
  INT8: (view, at) => BigInt(view.getInt8(at)),
  INT16: (view, at) => BigInt(view.getInt16(at, true)),
  INT32: (view, at) => BigInt(view.getInt32(at, true)),
  INT64: (view, at) => view.getBigInt64(at, true),
  UINT8: (view, at) => celUint(BigInt(view.getUint8(at))),
  UINT16: (view, at) => celUint(BigInt(view.getUint16(at, true))),
  UINT32: (view, at) => celUint(BigInt(view.getUint32(at, true))),
  UINT64: (view, at) => celUint(view.getBigUint64(at, true)),
  FP16: (view, at) => fromHalf(view.getUint16(at, true)),
  FP32: (view, at) => view.getFloat32(at, true),
  FP64: (view, at) => view.getFloat64(at, true),
}

/** The rows of a tensor. Its bytes must be as many as its datatype and shape say. */
export function rowsOf({ datatype, shape, bytes }: Tensor): Rows {
  const [count, ...dims] = shape
  const elements = product(dims)
  if (datatype === 'BYTES') {
    const { starts, longest } = scanTexts(bytes)
    const text = (index: number) => bytes.toString('utf8', (starts[index] ?? 0) + 4, starts[index + 1] ?? bytes.length)
    return { count, size: nestedSize(dims, { size: longest }), read: (row) => nested(dims, 0, row * elements, text) }
  }
  const read = readers[datatype]
  if (read === undefined) throw new ExpressionError(`no expression can see ${datatype}`)
  const width = datatypeBytes(datatype)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const size = nestedSize(dims, ONE)
  const element = (index: number) => read(view, index * width)
  return { count, size, read: (row) => nested(dims, 0, row * elements, element) }
}

function nested(dims: readonly number[], axis: number, first: number, element: (index: number) => CelInput): CelInput {
  const length = dims[axis]
  if (length === undefined) return element(first)
  const values: CelInput[] = []
  const stride = product(dims, axis + 1)
  for (let index = 0; index < length; index++) values.push(nested(dims, axis + 1, first + index * stride, element))
  return values
}

function nestedSize(dims: readonly number[], element: Size): Size {
  return dims.reduceRight<Size>((size, length) => ({ size: length, element: size }), element)
}

function scanTexts(bytes: Buffer): { starts: readonly number[]; longest: number } {
  const starts: number[] = []
  let longest = 0
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at)
    starts.push(at)
    longest = Math.max(longest, length)
    at += 4 + length
  }
  return { starts, longest }
}

type Write = (view: DataView, at: number, value: never) => void

interface Writer {
  readonly kind: 'bool' | 'whole' | 'number'
  readonly write: Write
  /** Bounds of whole numbers. */
  readonly range?: readonly [bigint, bigint]
}

const whole = (bits: number, isSigned: boolean, write: Write): Writer => ({
  kind: 'whole',
  write,
  range: isSigned ? [-(2n ** BigInt(bits - 1)), 2n ** BigInt(bits - 1) - 1n] : [0n, 2n ** BigInt(bits) - 1n],
})

const writers: Readonly<Partial<Record<Datatype, Writer>>> = {
  BOOL: { kind: 'bool', write: (view, at, value: boolean) => view.setUint8(at, value ? 1 : 0) },
  INT8: whole(8, true, (view, at, value: bigint) => view.setInt8(at, Number(value))),
  INT16: whole(16, true, (view, at, value: bigint) => view.setInt16(at, Number(value), true)),
  INT32: whole(32, true, (view, at, value: bigint) => view.setInt32(at, Number(value), true)),
  INT64: whole(64, true, (view, at, value: bigint) => view.setBigInt64(at, value, true)),
  UINT8: whole(8, false, (view, at, value: bigint) => view.setUint8(at, Number(value))),
  UINT16: whole(16, false, (view, at, value: bigint) => view.setUint16(at, Number(value), true)),
  UINT32: whole(32, false, (view, at, value: bigint) => view.setUint32(at, Number(value), true)),
  UINT64: whole(64, false, (view, at, value: bigint) => view.setBigUint64(at, value, true)),
  FP16: { kind: 'number', write: (view, at, value: number) => view.setUint16(at, toHalf(value), true) },
  FP32: { kind: 'number', write: (view, at, value: number) => view.setFloat32(at, value, true) },
  FP64: { kind: 'number', write: (view, at, value: number) => view.setFloat64(at, value, true) },
}

/** Gathers the values of rows, in their order, into a tensor. */
export class TensorBuilder {
  readonly #datatype: Datatype
  readonly #shape: readonly number[]
  readonly #rows: number
  readonly #writer: Writer | undefined
  #texts = Buffer.alloc(0)
  /** The dimensions of a row: those that the shape leaves open are those of the first row. */
  #dims: readonly number[] | undefined
  #view = new DataView(new ArrayBuffer(0))
  #at = 0

  /** For a shape whose first dimension stands for the rows, of which there will be `rows`. */
  constructor(datatype: Datatype, shape: readonly number[], rows: number) {
    this.#datatype = datatype
    this.#shape = shape
    this.#rows = rows
    this.#writer = writers[datatype]
  }

  /** Adds the value of the next row. Throws an ExpressionError when it does not fit. */
  add(value: CelInput): void {
    this.#dims ??= this.#begin(value)
    this.#put(value, 0)
  }

  /** The tensor of the rows that were added. */
  build(): Tensor {
    const rest = this.#shape.slice(1).map((size, axis) => this.#dims?.[axis] ?? Math.max(size, 0))
    const bytes =
      this.#datatype === 'BYTES' ? this.#texts.subarray(0, this.#at) : Buffer.from(this.#view.buffer, 0, this.#at)
    return { datatype: this.#datatype, shape: [this.#rows, ...rest], bytes }
  }

  #begin(value: CelInput): readonly number[] {
    const dims: number[] = []
    let inner: CelInput | undefined = value
    for (const size of this.#shape.slice(1)) {
      dims.push(size !== -1 ? size : isList(inner) ? sizeOf(inner) : 1)
      if (isList(inner)) [inner] = inner
    }
    const bytes = this.#rows * product(dims) * datatypeBytes(this.#datatype)
    if (bytes > MAX_TENSOR_BYTES) throw new ExpressionError(`its tensor would have ${bytes} bytes`)
    this.#view = new DataView(new ArrayBuffer(bytes))
    return dims
  }

  #put(value: CelInput, axis: number): void {
    const length = this.#dims?.[axis]
    if (length === undefined) this.#element(value)
    else if (isList(value)) {
      const size = sizeOf(value)
      if (size !== length) throw new ExpressionError(`a list of ${size} where the shape needs ${length}`)
      for (const inner of value) this.#put(inner, axis + 1)
    } else if (length === 1) this.#put(value, axis + 1)
    else throw new ExpressionError(`one value where the shape needs a list of ${length}`)
  }

  #element(value: CelInput): void {
    if (this.#writer === undefined) {
      if (typeof value !== 'string') throw new ExpressionError('a value that is not a string')
      if (value.includes('\0')) throw new ExpressionError('a string with a NUL, which the runtime cannot carry')
      this.#text(value)
      return
    }
    this.#writer.write(this.#view, this.#at, checked(value, this.#writer) as never)
    this.#at += datatypeBytes(this.#datatype)
  }

  #text(value: string): void {
    const length = Buffer.byteLength(value)
    const end = this.#at + 4 + length
    if (end > MAX_TENSOR_BYTES) throw new ExpressionError(`its tensor has more than ${MAX_TENSOR_BYTES} bytes`)
    if (end > this.#texts.length) {
      const larger = Buffer.allocUnsafe(Math.max(2 * this.#texts.length, end, SMALLEST_TEXT_BYTES))
      this.#texts.copy(larger, 0, 0, this.#at)
      this.#texts = larger
    }
    this.#texts.writeUInt32LE(length, this.#at)
    this.#texts.write(value, this.#at + 4)
    this.#at = end
  }
}

const SMALLEST_TEXT_BYTES = 256

/** Largest tensor that expressions make, in bytes. */
export const MAX_TENSOR_BYTES = 64 * 1024 * 1024

function checked(value: CelInput, { kind, range }: Writer): boolean | number | bigint {
  const isRight =
    kind === 'bool' ? typeof value === 'boolean' : kind === 'number' ? typeof value === 'number' : isWhole(value)
  if (!isRight) throw new ExpressionError(`a value that is not a ${kind === 'whole' ? 'whole number' : kind}`)
  if (range === undefined) return value as boolean | number
  const integer = isCelUint(value) ? value.value : (value as bigint)
  if (integer >= range[0] && integer <= range[1]) return integer
  throw new ExpressionError(`a number that does not fit (${range[0]} to ${range[1]})`)
}

function isList(value: CelInput | undefined): value is CelList | readonly CelInput[] {
  return Array.isArray(value) || isCelList(value)
}

function sizeOf(list: CelList | readonly CelInput[]): number {
  return isCelList(list) ? list.size : list.length
}

function isWhole(value: CelInput): value is bigint | CelUint {
  return typeof value === 'bigint' || isCelUint(value)
}

function product(dims: readonly number[], from = 0): number {
  let product = 1
  for (let axis = from; axis < dims.length; axis++) product *= dims[axis] as number
  return product
}
