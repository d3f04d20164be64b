/** Rows and columns of tensors in the raw layout of the Open Inference Protocol. Pure. */

interface Reader {
  readonly bytes: number
  read(view: DataView, offset: number): number
}

const readers: Readonly<Record<string, Reader>> = {
  BOOL: { bytes: 1, read: (view, offset) => (view.getUint8(offset) === 0 ? 0 : 1) },
  INT8: { bytes: 1, read: (view, offset) => view.getInt8(offset) },
  INT16: { bytes: 2, read: (view, offset) => view.getInt16(offset, true) },
  INT32: { bytes: 4, read: (view, offset) => view.getInt32(offset, true) },
  INT64: { bytes: 8, read: (view, offset) => Number(view.getBigInt64(offset, true)) },
  UINT8: { bytes: 1, read: (view, offset) => view.getUint8(offset) },
  UINT16: { bytes: 2, read: (view, offset) => view.getUint16(offset, true) },
  UINT32: { bytes: 4, read: (view, offset) => view.getUint32(offset, true) },
  UINT64: { bytes: 8, read: (view, offset) => Number(view.getBigUint64(offset, true)) },
  FP16: { bytes: 2, read: (view, offset) => halfToNumber(view.getUint16(offset, true)) },
  BF16: { bytes: 2, read: (view, offset) => bfloatToNumber(view.getUint16(offset, true)) },
  FP32: { bytes: 4, read: (view, offset) => view.getFloat32(offset, true) },
  FP64: { bytes: 8, read: (view, offset) => view.getFloat64(offset, true) },
}

/** A tensor's outer form: its first dimension counts rows. */
export interface TensorForm {
  readonly datatype: string
  readonly shape: readonly bigint[]
}

/** Values that one row of a tensor holds. */
export function valuesPerRow(form: TensorForm): number {
  return form.shape.slice(1).reduce((product, size) => product * Number(size), 1)
}

/** Where each row of raw contents starts, and the end; undefined when the bytes are not those of such a tensor. */
export function rowOffsets(form: TensorForm, raw: Uint8Array): readonly number[] | undefined {
  const rows = Number(form.shape[0] ?? 0n)
  const perRow = valuesPerRow(form)
  if (form.datatype === 'BYTES') return textOffsets(raw, rows, perRow)
  const size = readers[form.datatype]?.bytes
  if (size === undefined || raw.length !== rows * perRow * size) return undefined
  return Array.from({ length: rows + 1 }, (_, row) => row * perRow * size)
}

/** One column of raw contents as numbers; undefined when the bytes are not those of such a tensor, or are text. */
export function readColumn(form: TensorForm, raw: Uint8Array, column: number): Float64Array | undefined {
  const reader = readers[form.datatype]
  const perRow = valuesPerRow(form)
  const rows = Number(form.shape[0] ?? 0n)
  if (reader === undefined || column >= perRow || raw.length !== rows * perRow * reader.bytes) return undefined
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength)
  return Float64Array.from({ length: rows }, (_, row) => reader.read(view, (row * perRow + column) * reader.bytes))
}

function textOffsets(raw: Uint8Array, rows: number, perRow: number): readonly number[] | undefined {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength)
  const offsets = [0]
  let offset = 0
  for (let element = 1; element <= rows * perRow; element++) {
    if (offset + 4 > raw.length) return undefined
    offset += 4 + view.getUint32(offset, true)
    if (element % perRow === 0) offsets.push(offset)
  }
  return offset === raw.length ? offsets : undefined
}

function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 0x1f
  const fraction = bits & 0x3ff
  if (exponent === 0) return sign * fraction * 2 ** -24
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}

function bfloatToNumber(bits: number): number {
  return new Float32Array(new Uint32Array([bits << 16]).buffer)[0] ?? Number.NaN
}
