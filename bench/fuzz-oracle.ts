/**
 * With which codes a request to the fuzzed model may be answered, found by decoding all of it and by the protocol's rules
 * written down once more: nothing here is shared with the server.
 */
import { isUtf8 } from 'node:buffer'
import { type DescField, type DescMessage, fromBinary, ScalarType } from '@bufbuild/protobuf'
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'
import {
  type InferParameter,
  type InferTensorContents,
  type ModelInferRequest,
  ModelInferRequestSchema,
} from '@slipway/proto/inference/grpc_service'
import { Code } from '@slipway/rpc'
import { FUZZ_MODEL, fuzzTensors } from './fuzz-model.ts'

const MAX_ID_BYTES = 1024
const MAX_ROWS = 65_536
const MAX_VARINT_BYTES = 10

const INVALID: ReadonlySet<Code> = new Set([Code.INVALID_ARGUMENT])
const UNKNOWN: ReadonlySet<Code> = new Set([Code.NOT_FOUND])
const LATE = [Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED]

/** The codes with which the bytes of a request may be answered. */
export function judge(bytes: Uint8Array): ReadonlySet<Code> {
  if (!isPlain(ModelInferRequestSchema, bytes)) return INVALID
  let request: ModelInferRequest
  try {
    request = fromBinary(ModelInferRequestSchema, bytes)
  } catch {
    return INVALID
  }
  return judgeMessage(request)
}

function judgeMessage(request: ModelInferRequest): ReadonlySet<Code> {
  const { id, modelName, modelVersion, parameters } = request
  if (Buffer.byteLength(id) > MAX_ID_BYTES) return INVALID
  if (!Object.entries(parameters).every(([name, value]) => isParameterRight(name, value))) return INVALID
  if (modelName !== FUZZ_MODEL || !['', '1'].includes(modelVersion)) return UNKNOWN
  if (!areInputsRight(request) || !areOutputsRight(request)) return INVALID
  if (!(request.rawInputContents.length > 0 ? isRawRight(request) : isTypedRight(request))) return INVALID
  const timeout = parameters.timeout?.parameterChoice.value
  return new Set(timeout === undefined || Number(timeout) === 0 ? [Code.OK] : [Code.OK, ...LATE])
}

function isParameterRight(name: string, { parameterChoice: { case: kind, value } }: InferParameter): boolean {
  if (name.startsWith('triton_')) return name === 'triton_enable_empty_final_response'
  if ((name !== 'timeout' && name !== 'priority') || kind === undefined) return true
  if (kind === 'stringParam' || kind === 'boolParam' || !(Number(value) >= 0)) return false
  return name === 'timeout' || (Number.isInteger(Number(value)) && Number(value) < 2 ** 31)
}

function areInputsRight({ inputs }: ModelInferRequest): boolean {
  if (inputs.length !== fuzzTensors.length || new Set(inputs.map(({ name }) => name)).size !== inputs.length)
    return false
  const rows = new Set(inputs.map(({ shape }) => shape[0]))
  if (rows.size === 1 && [...rows].some((count) => (count ?? 0n) > MAX_ROWS)) return false
  return inputs.every(({ name, datatype, shape, parameters }) => {
    const spec = fuzzTensors.find((tensor) => tensor.name === name)
    if (spec === undefined || spec.datatype !== datatype || shape.length !== spec.row.length + 1) return false
    if (parameters.shared_memory_region !== undefined) return false
    const [first = -1n, ...rest] = shape
    return first >= 0n && first < 2n ** 31n && rest.every((size, axis) => size === BigInt(spec.row[axis] ?? -1))
  })
}

function areOutputsRight({ outputs }: ModelInferRequest): boolean {
  const names = outputs.map(({ name }) => name)
  if (new Set(names).size !== names.length) return false
  return outputs.every(
    ({ name, parameters }) =>
      fuzzTensors.some((tensor) => `${tensor.name}_out` === name) &&
      parameters.classification === undefined &&
      parameters.shared_memory_region === undefined,
  )
}

const isEmpty = (contents: InferTensorContents | undefined): boolean =>
  contents === undefined || Object.values(contents).every((value) => !Array.isArray(value) || value.length === 0)

const countOf = (shape: readonly bigint[]): number => Number(shape.reduce((product, size) => product * size, 1n))

function isRawRight({ inputs, rawInputContents }: ModelInferRequest): boolean {
  if (rawInputContents.length !== inputs.length || !inputs.every(({ contents }) => isEmpty(contents))) return false
  return inputs.every(({ datatype, shape }, index) => {
    const raw = Buffer.from(rawInputContents[index] ?? [])
    const count = countOf(shape)
    if (datatype === 'BYTES') return stringsIn(raw) === count
    if (datatype === 'BOOL' && !raw.every((byte) => byte <= 1)) return false
    return raw.length === count * ({ FP32: 4, INT64: 8, BOOL: 1, INT8: 1, UINT16: 2 }[datatype] ?? 0)
  })
}

/** How many strings lie in bytes; undefined when the last is cut off or one is no text that the runtime can carry. */
function stringsIn(raw: Buffer): number | undefined {
  let count = 0
  for (let at = 0; at < raw.length; count++) {
    if (at + 4 > raw.length) return undefined
    const end = at + 4 + raw.readUInt32LE(at)
    const text = raw.subarray(at + 4, end)
    if (end > raw.length || !isUtf8(text) || text.includes(0)) return undefined
    at = end
  }
  return count
}

const typedFields: Readonly<Record<string, keyof InferTensorContents>> = {
  FP32: 'fp32Contents',
  INT64: 'int64Contents',
  BOOL: 'boolContents',
  INT8: 'intContents',
  UINT16: 'uintContents',
  BYTES: 'bytesContents',
}

function isTypedRight({ inputs }: ModelInferRequest): boolean {
  return inputs.every(({ datatype, shape, contents }) => {
    const field = typedFields[datatype]
    if (field === undefined) return false
    const entries = Object.entries(contents ?? {}).filter(([, value]) => Array.isArray(value) && value.length > 0)
    if (entries.some(([name]) => name !== field)) return false
    const values = (contents?.[field] ?? []) as readonly unknown[]
    if (values.length !== countOf(shape)) return false
    if (datatype === 'INT8') return values.every((value) => Number(value) >= -128 && Number(value) <= 127)
    if (datatype === 'UINT16') return values.every((value) => Number(value) <= 65_535)
    if (datatype !== 'BYTES') return true
    return (values as readonly Uint8Array[]).every((value) => isUtf8(value) && !value.includes(0))
  })
}

/**
 * True when every part of a message ends where it says, and every known field is in its own wire type. The decoder asks
 * for neither.
 */
function isPlain(message: DescMessage, bytes: Uint8Array): boolean {
  const reader = new BinaryReader(bytes)
  try {
    while (reader.pos < bytes.length) {
      if (!isShort(bytes, reader.pos)) return false
      const [number, wire] = reader.tag()
      if (wire === WireType.StartGroup || wire === WireType.EndGroup) return false
      const field = message.fields.find((one) => one.number === number)
      if (field !== undefined && !wireTypesOf(field).includes(wire)) return false
      if (wire === WireType.LengthDelimited) {
        if (!isShort(bytes, reader.pos) || !isPlainInside(field, reader.bytes())) return false
      } else {
        const from = reader.pos
        reader.skip(wire, number)
        if (reader.pos - from > MAX_VARINT_BYTES) return false
      }
    }
    return reader.pos === bytes.length
  } catch {
    return false
  }
}

/** True when a tag or a length fits 32 bits and is not longer than it takes: decoders cut off what is above. */
function isShort(bytes: Uint8Array, at: number): boolean {
  const end = bytes.subarray(at, at + 5).findIndex((byte) => byte < 0x80)
  return end >= 0 && (end < 4 || (bytes[at + 4] ?? 0) <= 0x0f)
}

/** The wire types in which a field may be written; numbers of a list alone or packed. */
function wireTypesOf({ fieldKind, scalar }: DescField): readonly WireType[] {
  if (scalar === undefined || fieldKind === 'map') return [WireType.LengthDelimited]
  const own = wireTypeOf(scalar)
  return fieldKind === 'list' ? [own, WireType.LengthDelimited] : [own]
}

function wireTypeOf(scalar: ScalarType): WireType {
  if (scalar === ScalarType.STRING || scalar === ScalarType.BYTES) return WireType.LengthDelimited
  if (scalar === ScalarType.DOUBLE) return WireType.Bit64
  return scalar === ScalarType.FLOAT ? WireType.Bit32 : WireType.Varint
}

function isPlainInside(field: DescField | undefined, bytes: Uint8Array): boolean {
  if (field?.message !== undefined)
    return isPlain(field.fieldKind === 'map' ? mapEntry(field.message) : field.message, bytes)
  if (field?.fieldKind !== 'list' || field.scalar === undefined) return true
  const wire = wireTypeOf(field.scalar)
  if (wire === WireType.Bit32) return bytes.length % 4 === 0
  if (wire === WireType.Bit64) return bytes.length % 8 === 0
  return wire !== WireType.Varint || bytes.length === 0 || (bytes.at(-1) ?? 0) < 0x80
}

/** Enough of a description of a map's entry: its key is text, its value a message. */
function mapEntry(message: DescMessage): DescMessage {
  const key = { number: 1, fieldKind: 'scalar', scalar: ScalarType.STRING }
  const value = { number: 2, fieldKind: 'message', message }
  return { fields: [key, value] } as unknown as DescMessage
}
