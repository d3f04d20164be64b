/** Makes the content of a version out of what a caller sent: everything is checked before anything is written. */
import { create } from '@bufbuild/protobuf'
import { versionDigest } from '@slipway/models'
import { type ModelFile, type ModelVersion, ModelVersionSchema } from '@slipway/proto/slipway/registry/v1/model'
import type { CreateVersionRequest } from '@slipway/proto/slipway/registry/v1/registry_service'
import { Code, Failure, type FieldViolation } from '@slipway/rpc'
import type { BlobStore } from '@slipway/storage'
import { checkBindings, defaultOutputs } from './bindings.ts'
import { checkReferences } from './references.ts'
import { checkKind, readSignature, type SignatureOptions } from './signature.ts'

/** The declared content of a version with its digest; INVALID_ARGUMENT with every problem, by field. */
export async function checkContent(
  request: CreateVersionRequest,
  lineageProblems: readonly FieldViolation[],
  options: SignatureOptions,
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
  violations.push(...checkKind(paths))
  if (violations.length > 0) throw invalidVersion(violations)
  return checked
}

function invalidVersion(violations: readonly FieldViolation[]): Failure {
  const shown = violations.slice(0, 5).map(({ field, description }) => `${field} ${description}`)
  const message = `${shown.join('; ')}${violations.length > 5 ? `; and ${violations.length - 5} more` : ''}`
  return new Failure(Code.INVALID_ARGUMENT, 'INVALID_VERSION', message, { violations })
}
