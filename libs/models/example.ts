/**
 * The example that a version is registered with: a request and what it is answered. Inference has every version answer its own
 * before callers get it, and refuses one that answers otherwise.
 */
import { create, toBinary } from '@bufbuild/protobuf'
import {
  type ModelInferRequest,
  ModelInferRequestSchema,
  ModelInferResponseSchema,
} from '@slipway/proto/inference/grpc_service'

/** Where the two messages lie among a version's files. */
export const exampleFile = { request: 'example/request.binpb', response: 'example/response.binpb' } as const

/** One tensor with its values. */
export interface ExampleTensor {
  readonly name: string
  /** A datatype of the Open Inference Protocol, but for BF16. */
  readonly datatype: string
  readonly shape: readonly number[]
  /** The values, row-major: numbers, bigints for the 64-bit integers, booleans, or texts for BYTES. */
  readonly data: Iterable<number | bigint | boolean | string>
}

/** An example. */
export interface Example {
  readonly inputs: readonly ExampleTensor[]
  /** What is answered; without outputs the example only warms the version up. */
  readonly outputs?: readonly ExampleTensor[]
  /** How far an answer may lie from the one given: `absolute + relative × |expected|`; the server's own by datatype unless given. */
  readonly tolerance?: { readonly relative?: number; readonly absolute?: number }
}

type Value = number | bigint | boolean | string
type Writer = readonly [bytes: number, write: (view: DataView, at: number, value: Value) => void]

const writers: Readonly<Record<string, Writer>> = {
  BOOL: [1, (view, at, value) => view.setUint8(at, value ? 1 : 0)],
  INT8: [1, (view, at, value) => view.setInt8(at, Number(value))],
  UINT8: [1, (view, at, value) => view.setUint8(at, Number(value))],
  INT16: [2, (view, at, value) => view.setInt16(at, Number(value), true)],
  UINT16: [2, (view, at, value) => view.setUint16(at, Number(value), true)],
  INT32: [4, (view, at, value) => view.setInt32(at, Number(value), true)],
  UINT32: [4, (view, at, value) => view.setUint32(at, Number(value), true)],
  INT64: [8, (view, at, value) => view.setBigInt64(at, BigInt(value), true)],
  UINT64: [8, (view, at, value) => view.setBigUint64(at, BigInt(value), true)],
  FP16: [2, (view, at, value) => view.setFloat16(at, Number(value), true)],
  FP32: [4, (view, at, value) => view.setFloat32(at, Number(value), true)],
  FP64: [8, (view, at, value) => view.setFloat64(at, Number(value), true)],
}

/** The files of an example, by path. Throws a RangeError that names the tensor whose values do not fit its datatype or shape. */
export function exampleFiles({ inputs, outputs, tolerance = {} }: Example): Record<string, Uint8Array> {
  const request = toBinary(ModelInferRequestSchema, inferRequest(inputs))
  const files: Record<string, Uint8Array> = { [exampleFile.request]: request }
  if (outputs === undefined) return files
  const stated = Object.entries({
    relative_tolerance: tolerance.relative,
    absolute_tolerance: tolerance.absolute,
  }).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, { parameterChoice: { case: 'doubleParam' as const, value } }] as const],
  )
  const response = create(ModelInferResponseSchema, {
    outputs: outputs.map(declared),
    rawOutputContents: outputs.map(packed),
    parameters: Object.fromEntries(stated),
  })
  return { ...files, [exampleFile.response]: toBinary(ModelInferResponseSchema, response) }
}

/** A request with these inputs. Throws a RangeError as `exampleFiles` does. */
export function inferRequest(tensors: readonly ExampleTensor[]): ModelInferRequest {
  return create(ModelInferRequestSchema, { inputs: tensors.map(declared), rawInputContents: tensors.map(packed) })
}

function declared({ name, datatype, shape }: ExampleTensor) {
  return { name, datatype, shape: shape.map(BigInt) }
}

function packed({ name, datatype, shape, data }: ExampleTensor): Uint8Array {
  const values = [...data]
  const count = shape.reduce((product, size) => product * size, 1)
  if (values.length !== count) throw new RangeError(`${name} has ${values.length} values, its shape wants ${count}`)
  if (datatype === 'BYTES') return packedTexts(values)
  const writer = writers[datatype]
  if (writer === undefined) throw new RangeError(`${name} has datatype ${datatype}, which an example cannot carry`)
  const [bytes, write] = writer
  const view = new DataView(new ArrayBuffer(count * bytes))
  values.forEach((value, index) => {
    if (typeof value === 'string') throw new RangeError(`${name} has a text among its values, and is ${datatype}`)
    try {
      write(view, index * bytes, value)
    } catch (cause) {
      throw new RangeError(`element ${index} of ${name} does not fit ${datatype}`, { cause })
    }
  })
  return new Uint8Array(view.buffer)
}

/** Each text behind its length, 4 bytes. */
function packedTexts(values: readonly Value[]): Uint8Array {
  const pieces = values.flatMap((value) => {
    const text = Buffer.from(String(value))
    const length = Buffer.alloc(4)
    length.writeUInt32LE(text.length)
    return [length, text]
  })
  return new Uint8Array(Buffer.concat(pieces))
}
