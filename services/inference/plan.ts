/**
 * From the head of a request (its names, datatypes and shapes) to how it is run: checked against a version's signature
 * once, then used for every request with the same head.
 */
import { fromBinary } from '@bufbuild/protobuf'
import { type Datatype, isDatatype, type TensorSpec } from '@slipway/onnx'
import { type ModelInferRequest, ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import type { AnswerHead } from './answer.ts'
import type { GroupTensor } from './executors/layout.ts'
import { echo, invalid, malformed } from './refusals.ts'
import { elements, type ModelSignature, tensorBytes } from './signature.ts'
import { checkHead } from './wire-check.ts'
import type { Group } from './work-queue.ts'

const MAX_DIMENSION = 2 ** 31 - 1
const MAX_RANK = 64

/** One input of a request, in the request's order. */
export interface PlannedTensor {
  readonly name: string
  readonly datatype: Datatype
  readonly elements: number
  /** Bytes of its raw form; -1 for BYTES. */
  readonly bytes: number
  /** Its place in the group's order. */
  readonly position: number
}

/** How requests with one head are run. */
export interface Plan {
  readonly group: Group
  /** Rows of one request; 1 where the model does not take rows. */
  readonly rows: number
  readonly tensors: readonly PlannedTensor[]
  /** True when the request names the inputs in the group's order. */
  readonly isInOrder: boolean
  /** True when the caller asked for typed instead of raw answers. */
  readonly isTyped: boolean
  /** What all answers begin with, once the first was made. */
  answerHead: AnswerHead | undefined
}

/** Decodes the head of a request. Throws INVALID_ARGUMENT when it is none. */
export function decodeHead(head: string): ModelInferRequest {
  try {
    const bytes = Buffer.from(head, 'latin1')
    checkHead(bytes)
    return fromBinary(ModelInferRequestSchema, bytes)
  } catch (cause) {
    throw malformed(cause)
  }
}

/** Finds or makes the group of requests that have these inputs and outputs. */
export type FindGroup = (inputs: readonly GroupTensor[], outputs: readonly string[], batchable: boolean) => Group

/** Checks a head against a signature. Throws INVALID_ARGUMENT that names the field. */
export function planRequest(request: ModelInferRequest, signature: ModelSignature, findGroup: FindGroup): Plan {
  const model = echo(request.modelName)
  if (request.inputs.length !== signature.inputs.length) {
    const counts = `${signature.inputs.length} inputs but got ${request.inputs.length}`
    throw invalid('inputs', `expected ${counts} inputs for model '${model}'`)
  }
  const shapes: (readonly number[])[] = []
  const tensors = request.inputs.map((input, index): PlannedTensor => {
    const field = `inputs[${index}]`
    const position = signature.inputs.findIndex((spec) => spec.name === input.name)
    const spec = signature.inputs[position]
    if (spec === undefined)
      throw invalid(field, `unexpected inference input '${echo(input.name)}' for model '${model}'`)
    if (shapes[position] !== undefined) throw invalid(field, `input '${spec.name}' is given twice for model '${model}'`)
    const datatype = checkDatatype(field, input.datatype, spec, model)
    const shape = checkShape(field, input.shape, spec, model)
    refuseSharedMemory(field, input.parameters, spec.name)
    shapes[position] = shape
    return { name: spec.name, datatype, elements: elements(shape), bytes: tensorBytes(datatype, shape), position }
  })
  const { names, isTyped } = requestedOutputs(request, signature, model)
  const rows = commonRows(shapes, signature)
  const inputs = signature.inputs.map(({ name, datatype }, position): GroupTensor => {
    const dims = shapes[position] ?? []
    return { name, datatype, dims: rows === undefined ? dims : [-1, ...dims.slice(1)] }
  })
  return {
    group: findGroup(inputs, names, rows !== undefined),
    rows: rows ?? 1,
    tensors,
    isInOrder: tensors.every(({ position }, index) => position === index),
    isTyped,
    answerHead: undefined,
  }
}

function checkDatatype(field: string, datatype: string, spec: TensorSpec, model: string): Datatype {
  if (isDatatype(datatype) && datatype === spec.datatype) return datatype
  const expectation = `inference input '${spec.name}' data-type is '${echo(datatype)}', but model '${model}' expects '${spec.datatype}'`
  throw invalid(`${field}.datatype`, expectation)
}

function checkShape(field: string, given: readonly bigint[], spec: TensorSpec, model: string): readonly number[] {
  const shape = given.map(Number)
  const fits =
    shape.length <= MAX_RANK &&
    shape.length === spec.shape.length &&
    shape.every(
      (size, axis) => size >= 0 && size <= MAX_DIMENSION && (spec.shape[axis] === -1 || spec.shape[axis] === size),
    )
  if (fits && Number.isSafeInteger(elements(shape))) return shape
  const text = `Expected [${spec.shape}], got [${shape.slice(0, MAX_RANK)}]`
  throw invalid(`${field}.shape`, `unexpected shape for input '${spec.name}' for model '${model}'. ${text}`)
}

/** The number of rows, when the model takes rows and all inputs have as many. */
function commonRows(shapes: readonly (readonly number[])[], signature: ModelSignature): number | undefined {
  const rows = shapes[0]?.[0]
  if (!signature.takesRows || rows === undefined) return undefined
  return shapes.every((shape) => shape[0] === rows) ? rows : undefined
}

function requestedOutputs(request: ModelInferRequest, signature: ModelSignature, model: string) {
  const known = signature.outputs.map(({ name }) => name)
  const names: string[] = []
  let isTyped = false
  for (const [index, { name, parameters }] of request.outputs.entries()) {
    const field = `outputs[${index}]`
    if (!known.includes(name)) throw invalid(field, `unexpected inference output '${echo(name)}' for model '${model}'`)
    if (names.includes(name)) throw invalid(field, `output '${name}' is requested twice for model '${model}'`)
    if (parameters.classification !== undefined)
      throw invalid(field, `classification of output '${name}' is not supported`)
    refuseSharedMemory(field, parameters, name)
    const binary = parameters.binary_data_output?.parameterChoice
    if (binary?.case === 'boolParam' && !binary.value) isTyped = true
    names.push(name)
  }
  return { names: names.length === 0 ? known : names, isTyped }
}

function refuseSharedMemory(field: string, parameters: Readonly<Record<string, unknown>>, name: string): void {
  if (parameters.shared_memory_region !== undefined)
    throw invalid(field, `shared memory for '${name}' is not supported`)
}
