/** From the body of an infer request, JSON or JSON and binary data, to the message that the gRPC call takes. */
import { create, toBinary } from '@bufbuild/protobuf'
import { isDatatype } from '@slipway/onnx'
import {
  type InferParameter,
  InferParameterSchema,
  ModelInferRequestSchema,
} from '@slipway/proto/inference/grpc_service'
import { echo, invalid } from '../refusals.ts'
import { httpRefusal } from './failures.ts'
import { packJson } from './json-tensors.ts'
import { type JsonObject, objectOf, parseJson } from './json-text.ts'

/** Says how many of the body's first bytes are JSON; what follows are tensors. */
export const HEADER_LENGTH = 'inference-header-content-length'

const MAX_INT64 = 2n ** 63n - 1n
const MIN_INT64 = -(2n ** 63n)
const MAX_UINT64 = 2n ** 64n - 1n

/** What a body says. */
export interface InferRequest {
  /** The bytes of a ModelInferRequest, its tensors raw. */
  readonly message: Buffer
  /** Microseconds that the caller waits; undefined when it does not say. */
  readonly timeoutMicros: number | undefined
  /** The outputs asked for; none means all. */
  readonly outputs: readonly string[]
  readonly form: AnswerForm
}

/** Which outputs of an answer are binary data. */
export interface AnswerForm {
  readonly isBinary: boolean
  /** Outputs that were asked for in a form of their own. */
  readonly byOutput: ReadonlyMap<string, boolean>
}

/** Who is asked. */
export interface Addressee {
  readonly model: string
  readonly version: string
}

/** Reads a body. Throws INVALID_ARGUMENT that names the field. */
export function readInferRequest(
  { model, version }: Addressee,
  body: Buffer,
  headerLength: string | undefined,
  maxJsonBytes: number,
): InferRequest {
  const jsonBytes = jsonLength(headerLength, body, maxJsonBytes)
  const document = objectOf(parseJson(body.subarray(0, jsonBytes)))
  if (document === undefined) throw httpRefusal.badBody('the body is not a JSON object')
  const tensors = new BinaryTensors(body.subarray(jsonBytes))
  const inputs = objectsOf(document.inputs, 'inputs').map((input, index) => readInput(input, index, tensors))
  tensors.end()
  const outputs = objectsOf(document.outputs, 'outputs').map(readOutput)
  const { binary, parameters } = readParameters(document.parameters, 'parameters', 'binary_data_output')
  const message = create(ModelInferRequestSchema, {
    modelName: model,
    modelVersion: version,
    id: document.id === undefined ? '' : textOf(document.id, 'id'),
    parameters,
    inputs: inputs.map(({ input }) => input),
    outputs: outputs.map(({ output }) => output),
    rawInputContents: inputs.map(({ raw }) => raw),
  })
  const { timeout } = objectOf(document.parameters) ?? {}
  return {
    message: Buffer.from(toBinary(ModelInferRequestSchema, message)),
    timeoutMicros: typeof timeout === 'number' && timeout > 0 ? timeout : undefined,
    outputs: outputs.map(({ output }) => output.name),
    form: {
      isBinary: binary === true,
      byOutput: new Map(
        outputs.flatMap(({ output, isBinary }) => (isBinary === undefined ? [] : [[output.name, isBinary]])),
      ),
    },
  }
}

/** How many of a body's first bytes are JSON. Throws INVALID_ARGUMENT when the header says otherwise, RESOURCE_EXHAUSTED for too many. */
export function jsonLength(header: string | undefined, body: Buffer, maxJsonBytes: number): number {
  const length = header === undefined ? body.length : /^\d{1,15}$/.test(header) ? Number(header) : -1
  if (header !== undefined && (length < 1 || length > body.length))
    throw httpRefusal.badHeader(HEADER_LENGTH, `is not a length from 1 to the body's ${body.length} bytes`)
  if (length <= maxJsonBytes) return length
  throw httpRefusal.tooLarge('the JSON of a request, whose tensors may go as binary data,', maxJsonBytes)
}

/** The tensors behind the JSON, one after another. */
class BinaryTensors {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  take(size: unknown, field: string): Buffer {
    const left = this.#bytes.length - this.#at
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
      throw invalid(field, 'binary_data_size is not a number of bytes')
    if (size > left) throw invalid(field, `binary_data_size is ${size}, but only ${left} bytes of binary data are left`)
    this.#at += size
    return this.#bytes.subarray(this.#at - size, this.#at)
  }

  end(): void {
    const left = this.#bytes.length - this.#at
    if (left > 0) throw invalid('inputs', `${left} bytes of binary data belong to no input`)
  }
}

function readInput(input: JsonObject, index: number, tensors: BinaryTensors) {
  const field = `inputs[${index}]`
  const name = textOf(input.name, `${field}.name`)
  const datatype = textOf(input.datatype, `${field}.datatype`)
  if (!isDatatype(datatype))
    throw invalid(`${field}.datatype`, `input '${echo(name)}' has no datatype '${echo(datatype)}'`)
  const shape = shapeOf(input.shape, `${field}.shape`, name)
  const { binary: size, parameters } = readParameters(input.parameters, `${field}.parameters`, 'binary_data_size')
  const head = { name, datatype, shape: shape.map(BigInt), parameters }
  // Shared memory holds the values elsewhere; that it is refused is said where gRPC says it.
  if (Object.hasOwn(parameters, 'shared_memory_region')) return { input: head, raw: Buffer.alloc(0) }
  if (size === undefined) {
    if (input.data === undefined) throw invalid(field, `input '${echo(name)}' has neither data nor binary_data_size`)
    return { input: head, raw: packJson(input.data, { name: echo(name), datatype, shape }, `${field}.data`) }
  }
  if (input.data !== undefined) throw invalid(field, `input '${echo(name)}' has both data and binary_data_size`)
  return { input: head, raw: tensors.take(size, `${field}.parameters.binary_data_size`) }
}

function readOutput(output: JsonObject, index: number) {
  const field = `outputs[${index}]`
  const name = textOf(output.name, `${field}.name`)
  const { binary, parameters } = readParameters(output.parameters, `${field}.parameters`, 'binary_data')
  if (binary !== undefined && typeof binary !== 'boolean')
    throw invalid(`${field}.parameters.binary_data`, 'binary_data is neither true nor false')
  // What asks for typed values over gRPC has no meaning here, where the form is chosen afterwards.
  const { binary_data_output: _, ...passed } = parameters
  return { output: { name, parameters: passed }, isBinary: binary }
}

function objectsOf(value: unknown, field: string): readonly JsonObject[] {
  if (value === undefined && field === 'outputs') return []
  if (!Array.isArray(value)) throw invalid(field, `${field} is not a list`)
  return value.map((item: unknown, index) => {
    const object = objectOf(item)
    if (object === undefined) throw invalid(`${field}[${index}]`, 'not an object')
    return object
  })
}

function textOf(value: unknown, field: string): string {
  if (typeof value === 'string' && value.isWellFormed()) return value
  throw invalid(field, `${field} is not a string`)
}

function shapeOf(value: unknown, field: string, name: string): readonly number[] {
  const sizes: readonly unknown[] | undefined = Array.isArray(value) ? value : undefined
  if (sizes?.every((size): size is number => Number.isSafeInteger(size) && Number(size) >= 0)) return sizes
  throw invalid(field, `unexpected shape for input '${echo(name)}': it is not a list of sizes`)
}

/** Parameters as the message has them, without the one that only says where bytes are. */
function readParameters(value: unknown, field: string, about: string) {
  const parameters: Record<string, InferParameter> = {}
  let binary: unknown
  if (value !== undefined) {
    const given = objectOf(value)
    if (given === undefined) throw invalid(field, `${field} is not an object`)
    for (const [key, item] of Object.entries(given)) {
      if (key === about) binary = item
      else if (key !== '__proto__') parameters[key] = parameterOf(item, `${field}.${echo(key)}`)
    }
  }
  return { binary, parameters }
}

function parameterOf(value: unknown, field: string): InferParameter {
  const parameter = (choice: InferParameter['parameterChoice']) =>
    create(InferParameterSchema, { parameterChoice: choice })
  if (typeof value === 'boolean') return parameter({ case: 'boolParam', value })
  if (typeof value === 'string' && value.isWellFormed()) return parameter({ case: 'stringParam', value })
  if (typeof value === 'number' && !Number.isSafeInteger(value)) return parameter({ case: 'doubleParam', value })
  if (typeof value === 'number' || typeof value === 'bigint') {
    const exact = BigInt(value)
    if (exact >= MIN_INT64 && exact <= MAX_INT64) return parameter({ case: 'int64Param', value: exact })
    if (exact >= 0n && exact <= MAX_UINT64) return parameter({ case: 'uint64Param', value: exact })
  }
  throw invalid(field, `${field} is not a string, a number, true or false`)
}
