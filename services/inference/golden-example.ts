/**
 * The example that a version was registered with: a request, and what it was answered when the version was made. A version that
 * answers otherwise here, because of another runtime, another machine or a wrong conversion, is not put before callers.
 */
import { fromBinary } from '@bufbuild/protobuf'
import { type Datatype, isDatatype } from '@slipway/onnx'
import {
  type InferParameter,
  type InferTensorContents,
  ModelInferRequestSchema,
  type ModelInferResponse,
  ModelInferResponseSchema,
} from '@slipway/proto/inference/grpc_service'
import { Failure } from '@slipway/rpc'
import { predict, type RawTensor } from './local-predictions.ts'
import { refusal } from './refusals.ts'
import type { Servable } from './servable.ts'
import { elements } from './signature.ts'
import { firstDifference, type Tolerance } from './tensor-difference.ts'
import { packTyped } from './typed-tensors.ts'

/** A registered example as it lies in the version's files. */
export interface GoldenExample {
  /** An `inference.ModelInferRequest`. */
  readonly request: Uint8Array
  /** The `inference.ModelInferResponse` expected; without it the request only warms the version up. */
  readonly response?: Uint8Array
}

const RUN_TIMEOUT_MS = 120_000

interface DeclaredTensor {
  readonly name: string
  readonly datatype: string
  readonly shape: readonly bigint[]
  readonly contents?: InferTensorContents | undefined
}

/** Has a version answer its example. FAILED_PRECONDITION when it cannot, or answers otherwise than was recorded. */
export async function checkExample(served: Servable, example: GoldenExample): Promise<void> {
  const { name } = served
  const request = decode(name, 'request', () => fromBinary(ModelInferRequestSchema, example.request))
  const { response: recorded } = example
  const expected = recorded && decode(name, 'response', () => fromBinary(ModelInferResponseSchema, recorded))
  const inputs = decode(name, 'request', () => rawTensors(request.inputs, request.rawInputContents))
  const answers = expected && decode(name, 'response', () => rawTensors(expected.outputs, expected.rawOutputContents))
  const outputs = answers?.map((answer) => answer.name)
  const given = await predict(served, {
    inputs,
    ...(outputs === undefined ? {} : { outputs }),
    deadlineMs: Date.now() + RUN_TIMEOUT_MS,
  }).catch((error: unknown) => {
    throw refusal.exampleMismatch(name, `its request fails: ${Failure.from(error).message}`, {}, error)
  })
  if (expected === undefined || answers === undefined) return
  const tolerance = statedTolerance(expected)
  for (const [index, answer] of answers.entries()) compare(name, answer, given[index], tolerance)
}

function compare(name: string, expected: RawTensor, given: RawTensor | undefined, stated: Partial<Tolerance>): void {
  const output = expected.name
  const about = { output }
  if (given?.datatype !== expected.datatype)
    throw refusal.exampleMismatch(name, `output '${output}' is ${given?.datatype}, not ${expected.datatype}`, about)
  const shapes = [given.shape, expected.shape].map((shape) => `[${shape.join(', ')}]`)
  if (shapes[0] !== shapes[1])
    throw refusal.exampleMismatch(name, `output '${output}' has shape ${shapes[0]}, not ${shapes[1]}`, about)
  const different = firstDifference(expected.datatype as Datatype, expected.bytes, given.bytes, stated)
  if (different === undefined) return
  const { index, difference, tolerance } = different
  const off = difference === undefined ? undefined : text(difference)
  // The difference only: the values themselves go nowhere.
  const size = off === undefined ? 'it is another value' : `it is off by ${off}`
  throw refusal.exampleMismatch(name, `element ${index} of output '${output}': ${size}`, {
    output,
    element: String(index),
    relative_tolerance: text(tolerance.relative),
    absolute_tolerance: text(tolerance.absolute),
    ...(off === undefined ? {} : { difference: off }),
  })
}

/** The response's parameters `relative_tolerance` and `absolute_tolerance`, where they are given. */
function statedTolerance({ parameters }: ModelInferResponse): Partial<Tolerance> {
  const relative = numberOf(parameters.relative_tolerance)
  const absolute = numberOf(parameters.absolute_tolerance)
  return { ...(relative === undefined ? {} : { relative }), ...(absolute === undefined ? {} : { absolute }) }
}

function numberOf(parameter: InferParameter | undefined): number | undefined {
  const value = parameter?.parameterChoice.value
  const number = typeof value === 'bigint' ? Number(value) : value
  return typeof number === 'number' && number >= 0 ? number : undefined
}

function rawTensors(declared: readonly DeclaredTensor[], raws: readonly Uint8Array[]): RawTensor[] {
  if (raws.length > 0 && raws.length !== declared.length)
    throw new RangeError('raw and declared tensors differ in number')
  return declared.map(({ name, datatype, shape, contents }, index) => {
    if (!isDatatype(datatype)) throw new RangeError(`'${datatype}' is no datatype`)
    const dims = shape.map(Number)
    const raw = raws[index]
    return { name, datatype, shape: dims, bytes: raw ? Buffer.from(raw) : pack(name, datatype, dims, contents, index) }
  })
}

function pack(
  name: string,
  datatype: Datatype,
  dims: readonly number[],
  contents: InferTensorContents | undefined,
  index: number,
): Buffer {
  return packTyped(contents, { name, datatype, elements: elements(dims) }, index)
}

function decode<T>(name: string, file: 'request' | 'response', read: () => T): T {
  try {
    return read()
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw refusal.exampleMismatch(name, `its ${file} cannot be read: ${why}`, {}, error)
  }
}

function text(value: number): string {
  return Number(value.toPrecision(3)).toString()
}
