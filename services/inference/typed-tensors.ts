/** Tensors in typed form, as `InferTensorContents` carries them: packed into raw form on the way in, unpacked on the way out. */
import { create } from '@bufbuild/protobuf'
import type { Datatype } from '@slipway/onnx'
import { type InferTensorContents, InferTensorContentsSchema } from '@slipway/proto/inference/grpc_service'
import { invalid } from './refusals.ts'

type ContentsField = Exclude<keyof InferTensorContents, '$typeName' | '$unknown'>
type Scalar = number | bigint | boolean

interface TypedKind {
  readonly field: ContentsField
  readonly bytes: number
  readonly write: (view: DataView, at: number, value: never) => void
  readonly read: (view: DataView, at: number) => Scalar
  /** Bounds of a datatype narrower than its field. */
  readonly range?: readonly [number, number]
}

/** FP16 and BF16 have no typed form; BYTES is handled apart. */
const kinds: Readonly<Partial<Record<Datatype, TypedKind>>> = {
  BOOL: {
    field: 'boolContents',
    bytes: 1,
    write: (view, at, value: boolean) => view.setUint8(at, value ? 1 : 0),
    read: (view, at) => view.getUint8(at) !== 0,
  },
  INT8: {
    field: 'intContents',
    bytes: 1,
    range: [-128, 127],
    write: (view, at, value: number) => view.setInt8(at, value),
    read: (view, at) => view.getInt8(at),
  },
  INT16: {
    field: 'intContents',
    bytes: 2,
    range: [-32768, 32767],
    write: (view, at, value: number) => view.setInt16(at, value, true),
    read: (view, at) => view.getInt16(at, true),
  },
  INT32: {
    field: 'intContents',
    bytes: 4,
    write: (view, at, value: number) => view.setInt32(at, value, true),
    read: (view, at) => view.getInt32(at, true),
  },
  INT64: {
    field: 'int64Contents',
    bytes: 8,
    write: (view, at, value: bigint) => view.setBigInt64(at, value, true),
    read: (view, at) => view.getBigInt64(at, true),
  },
  UINT8: {
    field: 'uintContents',
    bytes: 1,
    range: [0, 255],
    write: (view, at, value: number) => view.setUint8(at, value),
    read: (view, at) => view.getUint8(at),
  },
  UINT16: {
    field: 'uintContents',
    bytes: 2,
    range: [0, 65535],
    write: (view, at, value: number) => view.setUint16(at, value, true),
    read: (view, at) => view.getUint16(at, true),
  },
  UINT32: {
    field: 'uintContents',
    bytes: 4,
    write: (view, at, value: number) => view.setUint32(at, value, true),
    read: (view, at) => view.getUint32(at, true),
  },
  UINT64: {
    field: 'uint64Contents',
    bytes: 8,
    write: (view, at, value: bigint) => view.setBigUint64(at, value, true),
    read: (view, at) => view.getBigUint64(at, true),
  },
  FP32: {
    field: 'fp32Contents',
    bytes: 4,
    write: (view, at, value: number) => view.setFloat32(at, value, true),
    read: (view, at) => view.getFloat32(at, true),
  },
  FP64: {
    field: 'fp64Contents',
    bytes: 8,
    write: (view, at, value: number) => view.setFloat64(at, value, true),
    read: (view, at) => view.getFloat64(at, true),
  },
}

/** True when a request's tensor carries any typed value; an empty message beside raw contents is tolerated. */
export function hasContents(contents: InferTensorContents | undefined): boolean {
  if (contents === undefined) return false
  return Object.values(contents).some((value) => Array.isArray(value) && value.length > 0)
}

/** Packs one tensor into raw form. Throws INVALID_ARGUMENT that names the field. */
export function packTyped(
  contents: InferTensorContents | undefined,
  tensor: { readonly name: string; readonly datatype: Datatype; readonly elements: number },
  index: number,
): Buffer {
  const field = `inputs[${index}].contents`
  const given = contents ?? create(InferTensorContentsSchema)
  if (tensor.datatype === 'BYTES') return packStrings(given, tensor, field)
  const kind = kinds[tensor.datatype]
  if (kind === undefined)
    throw invalid(field, `${tensor.datatype} of input '${tensor.name}' has no typed form: send it raw`)
  refuseOtherFields(given, kind.field, tensor, field)
  const values = given[kind.field] as readonly Scalar[]
  checkCount(values.length, tensor, field)
  const buffer = Buffer.alloc(values.length * kind.bytes)
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length)
  for (const [position, value] of values.entries()) {
    if (kind.range !== undefined && ((value as number) < kind.range[0] || (value as number) > kind.range[1])) {
      throw invalid(`${field}[${position}]`, `${value} of input '${tensor.name}' does not fit ${tensor.datatype}`)
    }
    kind.write(view, position * kind.bytes, value as never)
  }
  return buffer
}

function packStrings(
  contents: InferTensorContents,
  tensor: { readonly name: string; readonly datatype: Datatype; readonly elements: number },
  field: string,
): Buffer {
  refuseOtherFields(contents, 'bytesContents', tensor, field)
  checkCount(contents.bytesContents.length, tensor, field)
  const pieces: Uint8Array[] = []
  for (const value of contents.bytesContents) {
    const length = Buffer.alloc(4)
    length.writeUInt32LE(value.length)
    pieces.push(length, value)
  }
  return Buffer.concat(pieces)
}

function checkCount(count: number, tensor: { readonly name: string; readonly elements: number }, field: string): void {
  if (count === tensor.elements) return
  throw invalid(field, `input '${tensor.name}' has ${count} values where its shape needs ${tensor.elements}`)
}

function refuseOtherFields(
  contents: InferTensorContents,
  wanted: ContentsField,
  tensor: { readonly name: string; readonly datatype: Datatype },
  field: string,
): void {
  for (const [key, value] of Object.entries(contents)) {
    if (key === wanted || !Array.isArray(value) || value.length === 0) continue
    throw invalid(
      field,
      `input '${tensor.name}' is ${tensor.datatype}, whose values belong into another field than this`,
    )
  }
}

/** Unpacks a raw tensor; undefined where the datatype has no typed form. */
export function unpackTyped(datatype: Datatype, raw: Buffer): InferTensorContents | undefined {
  const contents = create(InferTensorContentsSchema)
  if (datatype === 'BYTES') {
    for (let at = 0; at < raw.length; ) {
      const length = raw.readUInt32LE(at)
      contents.bytesContents.push(Buffer.from(raw.subarray(at + 4, at + 4 + length)))
      at += 4 + length
    }
    return contents
  }
  const kind = kinds[datatype]
  if (kind === undefined) return undefined
  const view = new DataView(raw.buffer, raw.byteOffset, raw.length)
  const values: Scalar[] = []
  for (let at = 0; at < raw.length; at += kind.bytes) values.push(kind.read(view, at))
  Object.assign(contents, { [kind.field]: values })
  return contents
}
