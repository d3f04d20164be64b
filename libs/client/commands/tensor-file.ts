/** Reads tensors from JSON as the Open Inference Protocol writes requests and answers over HTTP. */
import { readFile } from 'node:fs/promises'
import { type ExampleTensor, exampleFiles, inferRequest } from '@slipway/models'
import type { ModelInferRequest } from '@slipway/proto/inference/grpc_service'
import { UsageError } from '../command.ts'

type Fields = Readonly<Record<string, unknown>>

/** The files of an example, by path. UsageError when a file is not what it should be. */
export async function readExample(request: string, answer: string | undefined): Promise<Record<string, Uint8Array>> {
  const { inputs } = await readFields(request)
  const answered = answer === undefined ? undefined : await readFields(answer)
  try {
    return exampleFiles({
      inputs: tensorsOf(inputs, 'inputs'),
      ...(answered === undefined ? {} : { outputs: tensorsOf(answered.outputs, 'outputs') }),
      ...(isFields(answered?.parameters) ? { tolerance: toleranceOf(answered.parameters) } : {}),
    })
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new UsageError(`${answer === undefined ? request : `${request} or ${answer}`}: ${error.message}`)
  }
}

/** The inputs of a request: their values, and as they are sent. UsageError when the file is not what it should be. */
export async function readInputs(path: string): Promise<{ tensors: ExampleTensor[]; request: ModelInferRequest }> {
  const { inputs } = await readFields(path)
  try {
    const tensors = tensorsOf(inputs, 'inputs')
    return { tensors, request: inferRequest(tensors) }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new UsageError(`${path}: ${error.message}`)
  }
}

async function readFields(path: string): Promise<Fields> {
  try {
    const value: unknown = JSON.parse(await readFile(path, 'utf8'))
    if (isFields(value)) return value
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${error instanceof Error ? error.message : error}`)
  }
  throw new UsageError(`${path} holds no JSON object`)
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function tensorsOf(value: unknown, field: string): ExampleTensor[] {
  if (!Array.isArray(value) || value.length === 0) throw new RangeError(`"${field}" must list the tensors`)
  return value.map((tensor: unknown, index) => {
    const where = `${field}[${index}]`
    if (!isFields(tensor)) throw new RangeError(`${where} is no tensor`)
    const { name, datatype, shape, data } = tensor
    if (typeof name !== 'string' || typeof datatype !== 'string')
      throw new RangeError(`${where} needs a name and a datatype`)
    if (!Array.isArray(shape) || !shape.every((size) => Number.isInteger(size) && size >= 0))
      throw new RangeError(`${where}.shape must list the sizes`)
    if (!Array.isArray(data)) throw new RangeError(`${where}.data must list the values`)
    return { name, datatype, shape, data: data.flat(Number.POSITIVE_INFINITY).map((each) => elementOf(each, where)) }
  })
}

function elementOf(value: unknown, where: string): number | boolean | string {
  // JSON has no NaN: null stands for it, as in the feature store's answers.
  if (value === null) return Number.NaN
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'string') return value
  throw new RangeError(`${where}.data holds what is no value`)
}

function toleranceOf({ relative_tolerance: relative, absolute_tolerance: absolute }: Fields) {
  return {
    ...(typeof relative === 'number' ? { relative } : {}),
    ...(typeof absolute === 'number' ? { absolute } : {}),
  }
}
