/** Tensors as JSON: values into raw form on the way in, raw form into text on the way out. Nothing is rounded or wrapped silently. */
import { type Datatype, datatypeBytes } from '@slipway/onnx'
import { invalid } from '../refusals.ts'

const MAX_DEPTH = 64

interface JsonKind {
  readonly write: (view: DataView, at: number, value: unknown) => boolean
  readonly text: (raw: Uint8Array) => string
}

/** FP16 and BF16 have no JSON form; BYTES is handled apart. */
const kinds: Readonly<Partial<Record<Datatype, JsonKind>>> = {
  BOOL: {
    write(view, at, value) {
      if (typeof value === 'boolean') view.setUint8(at, value ? 1 : 0)
      return typeof value === 'boolean'
    },
    text: (raw) => `[${Array.from(raw, (byte) => byte !== 0).join(',')}]`,
  },
  INT8: integers(-128, 127, (view, at, value) => view.setInt8(at, value), Int8Array),
  INT16: integers(-32_768, 32_767, (view, at, value) => view.setInt16(at, value, true), Int16Array),
  INT32: integers(-(2 ** 31), 2 ** 31 - 1, (view, at, value) => view.setInt32(at, value, true), Int32Array),
  INT64: longs(-(2n ** 63n), 2n ** 63n - 1n, (view, at, value) => view.setBigInt64(at, value, true), BigInt64Array),
  UINT8: integers(0, 255, (view, at, value) => view.setUint8(at, value), Uint8Array),
  UINT16: integers(0, 65_535, (view, at, value) => view.setUint16(at, value, true), Uint16Array),
  UINT32: integers(0, 2 ** 32 - 1, (view, at, value) => view.setUint32(at, value, true), Uint32Array),
  UINT64: longs(0n, 2n ** 64n - 1n, (view, at, value) => view.setBigUint64(at, value, true), BigUint64Array),
  FP32: {
    write(view, at, value) {
      const number = numberOf(value)
      if (number === undefined) return false
      view.setFloat32(at, number, true)
      // A number that FP32 has no room for is refused, not infinity.
      return Number.isFinite(view.getFloat32(at, true)) || typeof value === 'string'
    },
    text: (raw) => floatsText(new Float32Array(aligned(raw))),
  },
  FP64: {
    write(view, at, value) {
      const number = numberOf(value)
      if (number === undefined) return false
      view.setFloat64(at, number, true)
      return Number.isFinite(number) || typeof value === 'string'
    },
    text: (raw) => floatsText(new Float64Array(aligned(raw))),
  },
}

type Joinable = new (buffer: ArrayBuffer) => { join(separator: string): string }

function integers(
  min: number,
  max: number,
  write: (view: DataView, at: number, value: number) => void,
  List: Joinable,
): JsonKind {
  return {
    write(view, at, value) {
      if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) return false
      write(view, at, value)
      return true
    },
    text: (raw) => `[${new List(aligned(raw)).join(',')}]`,
  }
}

/** A number that is not safe was rounded when it was parsed; its digits come as a bigint, see `parseJson`. */
function longs(
  min: bigint,
  max: bigint,
  write: (view: DataView, at: number, value: bigint) => void,
  List: Joinable,
): JsonKind {
  return {
    write(view, at, value) {
      const exact = typeof value === 'number' && Number.isSafeInteger(value) ? BigInt(value) : value
      if (typeof exact !== 'bigint' || exact < min || exact > max) return false
      write(view, at, exact)
      return true
    },
    text: (raw) => `[${new List(aligned(raw)).join(',')}]`,
  }
}

const words: ReadonlyMap<unknown, number> = new Map([
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['-Infinity', Number.NEGATIVE_INFINITY],
])

function numberOf(value: unknown): number | undefined {
  if (typeof value === 'number') return value
  return typeof value === 'bigint' ? Number(value) : words.get(value)
}

/** A copy that begins where a typed array may; raw form is little-endian, as is every machine that the runtime has. */
function aligned(raw: Uint8Array): ArrayBuffer {
  const copy = new ArrayBuffer(raw.length)
  new Uint8Array(copy).set(raw)
  return copy
}

/** JSON has no NaN and no infinity: they are null. A zero keeps its sign. */
function floatsText(values: Float32Array | Float64Array): string {
  const isPlain = values.every((value) => Number.isFinite(value) && !Object.is(value, -0))
  if (isPlain) return `[${values.join(',')}]`
  return `[${Array.from(values, (value) => (Number.isFinite(value) ? (Object.is(value, -0) ? '-0.0' : value) : 'null')).join(',')}]`
}

/** Whether a datatype can be written as JSON. */
export function hasJsonForm(datatype: string): boolean {
  return datatype === 'BYTES' || kinds[datatype as Datatype] !== undefined
}

/** What is known of a tensor besides its values. */
export interface JsonTensor {
  readonly name: string
  readonly datatype: Datatype
  readonly shape: readonly number[]
}

/** Packs the values of one tensor, nested as its shape or flat. Throws INVALID_ARGUMENT that names the field. */
export function packJson(data: unknown, tensor: JsonTensor, field: string): Buffer {
  const { name, datatype, shape } = tensor
  const values = flatten(data, tensor, field)
  const count = shape.reduce((product, size) => product * size, 1)
  if (values.length !== count)
    throw invalid(field, `input '${name}' has ${values.length} values where its shape needs ${count}`)
  const refuse = (index: number) =>
    invalid(`${field}[${index}]`, `a value of input '${name}' is not ${describe(datatype)}`)
  if (datatype === 'BYTES') return packStrings(values, refuse)
  const kind = kinds[datatype]
  if (kind === undefined)
    throw invalid(field, `${datatype} of input '${name}' has no JSON form: send it as binary data`)
  const size = datatypeBytes(datatype)
  const buffer = Buffer.allocUnsafe(count * size)
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length)
  for (let index = 0; index < count; index++) if (!kind.write(view, index * size, values[index])) throw refuse(index)
  return buffer
}

function describe(datatype: Datatype): string {
  if (datatype === 'BYTES') return 'a string'
  if (datatype === 'BOOL') return 'true or false'
  return datatype.startsWith('FP') ? `a number that fits ${datatype}` : `an integer that fits ${datatype}`
}

function packStrings(values: readonly unknown[], refuse: (index: number) => Error): Buffer {
  const pieces: Buffer[] = []
  for (const [index, value] of values.entries()) {
    if (typeof value !== 'string' || !value.isWellFormed()) throw refuse(index)
    const text = Buffer.from(value)
    const length = Buffer.allocUnsafe(4)
    length.writeUInt32LE(text.length)
    pieces.push(length, text)
  }
  return Buffer.concat(pieces)
}

/** The values in row-major order. Lists inside lists must have the lengths that the shape says; the innermost holds what is left of it. */
function flatten(data: unknown, { name, shape }: JsonTensor, field: string): readonly unknown[] {
  if (!Array.isArray(data)) {
    if (shape.length === 0 && data !== undefined && (typeof data !== 'object' || data === null)) return [data]
    throw invalid(field, `input '${name}' has no list of values`)
  }
  let level: readonly unknown[] = data
  for (let axis = 0; level.some(Array.isArray); axis++) {
    const size = shape[axis]
    const isRegular = axis < MAX_DEPTH && level.every(Array.isArray)
    const lists = level as readonly (readonly unknown[])[]
    const length = lists[0]?.length ?? 0
    const isFull = axis > 0 || lists.length === size
    if (!isRegular || !isFull || axis + 1 >= shape.length || lists.some((list) => list.length !== length))
      throw invalid(field, `the values of input '${name}' are not nested as its shape says`)
    if (lists.some((list) => list.some(Array.isArray)) && length !== shape[axis + 1])
      throw invalid(field, `the values of input '${name}' are not nested as its shape says`)
    level = lists.flat()
  }
  return level
}

/** The values of a raw tensor as a JSON list, row-major and flat; undefined where the datatype has no JSON form. */
export function tensorText(datatype: string, raw: Uint8Array): string | undefined {
  if (datatype === 'BYTES') return stringsText(raw)
  return kinds[datatype as Datatype]?.text(raw)
}

function stringsText(raw: Uint8Array): string {
  const bytes = Buffer.from(raw.buffer, raw.byteOffset, raw.length)
  const texts: string[] = []
  for (let at = 0; at < bytes.length; ) {
    const end = at + 4 + bytes.readUInt32LE(at)
    texts.push(bytes.toString('utf8', at + 4, end))
    at = end
  }
  return JSON.stringify(texts)
}
