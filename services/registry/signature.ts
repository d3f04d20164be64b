/** Inputs and outputs of a version, read from what it is made of: a model's graph, or a pipeline and the models that it runs. */
import { create } from '@bufbuild/protobuf'
import { OnnxError, type OnnxModel, readModel, type TensorSpec } from '@slipway/onnx'
import {
  checkPipeline,
  MAX_PIPELINE_BYTES,
  modelKey,
  PIPELINE_FILE,
  readPipeline,
  type Signature as StepSignature,
} from '@slipway/pipelines'
import type { ModelStep } from '@slipway/proto/slipway/inference/v1/pipeline'
import {
  type ModelFile,
  type ModelVersion,
  type Signature,
  SignatureSchema,
} from '@slipway/proto/slipway/registry/v1/model'
import { Code, Failure, type FieldViolation } from '@slipway/rpc'
import type { BlobStore } from '@slipway/storage'

/** The file of a version that holds its graph. */
export const graphPath = 'model.onnx'

/** Where files are, how large a graph may be, and where other versions are. */
export interface SignatureOptions {
  readonly blobs: BlobStore
  /** Largest graph that is read, in bytes. */
  readonly maxGraphBytes: number
  /** A version that is registered, by its name. */
  readonly findVersion: (name: string) => Promise<ModelVersion | undefined>
}

/** What is wrong when a version has neither a graph nor a pipeline, or both. */
export function checkKind(paths: ReadonlySet<string>): readonly FieldViolation[] {
  if (paths.has(graphPath) !== paths.has(PIPELINE_FILE)) return []
  const description = paths.has(graphPath)
    ? `must contain ${graphPath} or ${PIPELINE_FILE}, not both`
    : `must contain ${graphPath} or ${PIPELINE_FILE}`
  return [{ field: 'files', description }]
}

/** The signature of a version with these files; INVALID_ARGUMENT when they are not what can be served. */
export async function readSignature(files: readonly ModelFile[], options: SignatureOptions): Promise<Signature> {
  if (files.some(({ path }) => path === PIPELINE_FILE)) return await readPipelineSignature(files, options)
  const { inputs, outputs, opsets, externalFiles } = await readGraph(files, graphPath, options)
  const absent = externalFiles.filter((path) => !files.some((file) => file.path === path))
  if (absent.length > 0) throw Failure.invalid('files', `must contain ${absent.join(', ')}, which the graph refers to`)
  return toSignature(inputs, outputs, opsets)
}

async function readPipelineSignature(files: readonly ModelFile[], options: SignatureOptions): Promise<Signature> {
  const index = files.findIndex(({ path }) => path === PIPELINE_FILE)
  const bytes = await readFile(files, PIPELINE_FILE, MAX_PIPELINE_BYTES, options.blobs)
  const pipeline = ofFile(index, () => readPipeline(bytes))
  const models = new Map<string, StepSignature>()
  const opsets: Record<string, number> = {}
  for (const [at, { kind }] of pipeline.steps.entries()) {
    if (kind.case !== 'model' || models.has(modelKey(kind.value))) continue
    const field = `files[${index}].steps[${at}].model`
    const found = await readStepModel(kind.value, field, files, options)
    if (found === undefined) continue
    models.set(modelKey(kind.value), found)
    for (const [domain, version] of Object.entries(found.opsets))
      opsets[domain] = Math.max(opsets[domain] ?? 0, version)
  }
  const { inputs, outputs } = ofFile(index, () => checkPipeline(pipeline, models))
  return toSignature(
    inputs,
    outputs.map(({ spec }) => spec),
    opsets,
  )
}

/** The signature of what a step runs; undefined when it is a file that is not there, which the check of the pipeline says. */
async function readStepModel(
  { source }: ModelStep,
  field: string,
  files: readonly ModelFile[],
  options: SignatureOptions,
): Promise<(StepSignature & Pick<OnnxModel, 'opsets'>) | undefined> {
  if (source.case === 'version') {
    const { name, digest } = source.value
    const version = await options.findVersion(name)
    if (version === undefined) throw Failure.invalid(`${field}.version.name`, `there is no ${name}`)
    if (version.digest !== digest) throw wrongDigest(`${field}.version.digest`, name, version.digest)
    const { inputs = [], outputs = [], opsets = {} } = version.signature ?? {}
    const numbers = Object.fromEntries(Object.entries(opsets).map(([domain, number]) => [domain, Number(number)]))
    return { inputs: inputs.map(fromSpec), outputs: outputs.map(fromSpec), opsets: numbers }
  }
  if (source.case !== 'file' || !files.some(({ path }) => path === source.value)) return undefined
  const model = await readGraph(files, source.value, options)
  if (model.externalFiles.length === 0) return model
  throw Failure.invalid(`${field}.file`, `${source.value} has its weights in other files: put them into it`)
}

async function readGraph(
  files: readonly ModelFile[],
  path: string,
  { blobs, maxGraphBytes }: SignatureOptions,
): Promise<OnnxModel> {
  const bytes = await readFile(files, path, maxGraphBytes, blobs)
  try {
    return readModel(bytes)
  } catch (error) {
    if (!(error instanceof OnnxError)) throw error
    const index = files.findIndex((file) => file.path === path)
    throw Failure.invalid(`files[${index}]`, `is not a model: ${error.message}`)
  }
}

async function readFile(
  files: readonly ModelFile[],
  path: string,
  maxBytes: number,
  blobs: BlobStore,
): Promise<Buffer> {
  const index = files.findIndex((file) => file.path === path)
  const file = files[index]
  if (file === undefined) throw Failure.invalid('files', `must contain ${path}`)
  if (file.sizeBytes > maxBytes) {
    throw Failure.invalid(`files[${index}].size_bytes`, `${path} may have ${maxBytes} bytes at most`)
  }
  const pieces: Uint8Array[] = []
  for await (const piece of blobs.read(file.digest)) pieces.push(piece)
  return Buffer.concat(pieces)
}

/** Places what is wrong inside a file into the request. */
function ofFile<T>(index: number, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const { code, reason, message, violations, cause } = error
    throw new Failure(code, reason, message, {
      violations: violations.map(({ field, description }) => ({ field: `files[${index}].${field}`, description })),
      cause,
    })
  }
}

function wrongDigest(field: string, name: string, digest: string): Failure {
  const description = `${name} has the digest ${digest}`
  return new Failure(Code.INVALID_ARGUMENT, 'DIGEST_MISMATCH', `${field}: ${description}`, {
    violations: [{ field, description }],
  })
}

function toSignature(
  inputs: readonly TensorSpec[],
  outputs: readonly TensorSpec[],
  opsets: Readonly<Record<string, number>>,
): Signature {
  return create(SignatureSchema, {
    inputs: inputs.map(toSpec),
    outputs: outputs.map(toSpec),
    opsets: Object.fromEntries(Object.entries(opsets).map(([domain, version]) => [domain, BigInt(version)])),
  })
}

function toSpec({ name, datatype, shape }: TensorSpec) {
  return { name, datatype, shape: shape.map(BigInt) }
}

function fromSpec({ name, datatype, shape }: Signature['inputs'][number]): TensorSpec {
  // What is registered was read from a graph, so its datatype is one.
  return { name, datatype: datatype as TensorSpec['datatype'], shape: shape.map(Number) }
}
