/** Makes the content of a version out of what a caller sent: everything is checked before anything is written. */
import { create } from '@bufbuild/protobuf'
import { versionDigest } from '@slipway/models'
import { OnnxError, readModel, type TensorSpec } from '@slipway/onnx'
import {
  type ModelFile,
  type ModelVersion,
  ModelVersionSchema,
  type Signature,
  SignatureSchema,
} from '@slipway/proto/slipway/registry/v1/model'
import type { CreateVersionRequest } from '@slipway/proto/slipway/registry/v1/registry_service'
import { Code, Failure, type FieldViolation } from '@slipway/rpc'
import type { BlobStore } from '@slipway/storage'
import { checkBindings, defaultOutputs } from './bindings.ts'
import { checkReferences } from './references.ts'

/** The file of a version that holds its graph. */
export const graphPath = 'model.onnx'

/** Where files are and how large a graph may be. */
export interface ContentOptions {
  readonly blobs: BlobStore
  /** Largest graph that is read, in bytes. */
  readonly maxGraphBytes: number
}

/** The declared content of a version with its digest; INVALID_ARGUMENT with every problem, by field. */
export async function checkContent(
  request: CreateVersionRequest,
  lineageProblems: readonly FieldViolation[],
  options: ContentOptions,
): Promise<ModelVersion> {
  const { features, featureService, lineage, referenceDistributions } = request
  const files = await checkFiles(request.files, options.blobs)
  const signature = await readSignature(files, options)
  const outputs = request.outputs.length > 0 ? request.outputs : defaultOutputs(signature)
  const byPath = files.toSorted((a, b) => (a.path < b.path ? -1 : 1))
  const declared = { files: byPath, signature, features, outputs, featureService, referenceDistributions }
  const content = create(ModelVersionSchema, { ...declared, ...(lineage && { lineage }) })
  const violations = [
    ...checkBindings({ features, outputs: content.outputs, featureService }, signature),
    ...checkReferences(referenceDistributions, features, content.outputs),
    ...lineageProblems,
  ]
  if (outputs.length === 0) {
    const description = 'must name the outputs: no output tensor of the graph is one number a row'
    violations.push({ field: 'outputs', description })
  }
  if (violations.length > 0) throw invalidVersion(violations)
  content.digest = versionDigest(content)
  return content
}

/** The files with their sizes; each must have been uploaded. */
async function checkFiles(files: readonly ModelFile[], blobs: BlobStore): Promise<ModelFile[]> {
  const violations: FieldViolation[] = []
  const paths = new Set<string>()
  const checked: ModelFile[] = []
  for (const [index, file] of files.entries()) {
    const stored = await blobs.stat(file.digest)
    const field = `files[${index}]`
    if (paths.has(file.path)) violations.push({ field: `${field}.path`, description: `${file.path} is named twice` })
    if (file.path.split('/').some((part) => part === '..' || part === '.')) {
      violations.push({ field: `${field}.path`, description: 'must not contain . or ..' })
    }
    paths.add(file.path)
    if (stored === undefined) {
      violations.push({ field: `${field}.digest`, description: 'is not uploaded: upload the file first' })
    } else if (file.sizeBytes !== 0n && file.sizeBytes !== BigInt(stored.sizeBytes)) {
      violations.push({ field: `${field}.size_bytes`, description: `the uploaded file has ${stored.sizeBytes} bytes` })
    }
    checked.push({ ...file, sizeBytes: BigInt(stored?.sizeBytes ?? 0) })
  }
  if (!paths.has(graphPath)) violations.push({ field: 'files', description: `must contain ${graphPath}` })
  if (violations.length > 0) throw invalidVersion(violations)
  return checked
}

async function readSignature(files: readonly ModelFile[], options: ContentOptions): Promise<Signature> {
  const index = files.findIndex((file) => file.path === graphPath)
  const graph = files[index]
  if (graph === undefined) throw Failure.invalid('files', `must contain ${graphPath}`)
  if (graph.sizeBytes > options.maxGraphBytes) {
    throw Failure.invalid(`files[${index}].size_bytes`, `a graph has ${options.maxGraphBytes} bytes at most`)
  }
  const pieces: Uint8Array[] = []
  for await (const piece of options.blobs.read(graph.digest)) pieces.push(piece)
  try {
    const { inputs, outputs, opsets, externalFiles } = readModel(Buffer.concat(pieces))
    const absent = externalFiles.filter((path) => !files.some((file) => file.path === path))
    if (absent.length > 0)
      throw Failure.invalid('files', `must contain ${absent.join(', ')}, which the graph refers to`)
    return create(SignatureSchema, {
      inputs: inputs.map(toSpec),
      outputs: outputs.map(toSpec),
      opsets: Object.fromEntries(Object.entries(opsets).map(([domain, version]) => [domain, BigInt(version)])),
    })
  } catch (error) {
    if (error instanceof OnnxError) throw Failure.invalid(`files[${index}]`, `is not a model: ${error.message}`)
    throw error
  }
}

function toSpec({ name, datatype, shape }: TensorSpec) {
  return { name, datatype, shape: shape.map(BigInt) }
}

function invalidVersion(violations: readonly FieldViolation[]): Failure {
  const shown = violations.slice(0, 5).map(({ field, description }) => `${field} ${description}`)
  const message = `${shown.join('; ')}${violations.length > 5 ? `; and ${violations.length - 5} more` : ''}`
  return new Failure(Code.INVALID_ARGUMENT, 'INVALID_VERSION', message, { violations })
}
