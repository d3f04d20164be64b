/** What is said about the server and its models without running one; the same over gRPC and HTTP. */
import type { MessageInitShape } from '@bufbuild/protobuf'
import type { SettingsReader } from '@slipway/config'
import type { TensorSpec } from '@slipway/onnx'
import type { ModelMetadataResponseSchema, ServerMetadataResponseSchema } from '@slipway/proto/inference/grpc_service'
import type { ModelTable } from './model-table.ts'

/** The extensions of the protocol that this server has. */
export const EXTENSIONS = [
  'binary_tensor_data',
  'model_configuration',
  'model_repository',
  'model_repository(unload_dependents)',
  'parameters',
  'schedule_policy',
  'statistics',
] as const

/** What the server says about itself. */
export interface ServerIdentity {
  readonly name: string
  readonly version: string
  /** Those of {@link EXTENSIONS} that clients are told of; all of them when unset. */
  readonly extensions?: readonly string[]
}

/** Reads what the server says about itself. */
export function readIdentity(read: SettingsReader, version: string): ServerIdentity {
  const named = read.list('SLIPWAY_INFERENCE_EXTENSIONS', {
    doc: `the extensions told to clients, separated by commas, of ${EXTENSIONS.join(', ')}; unset: all`,
    pattern: new RegExp(`^(${EXTENSIONS.map((name) => name.replace(/[()]/g, '\\$&')).join('|')})$`),
  })
  return {
    name: read.text('SLIPWAY_INFERENCE_SERVER_NAME', { doc: 'the name told to clients', default: 'slipway' }),
    version: read.text('SLIPWAY_INFERENCE_SERVER_VERSION', { doc: 'the version told to clients', default: version }),
    ...(named.length > 0 ? { extensions: named } : {}),
  }
}

/** A model, and one of its versions; '' lets the server choose. */
export interface ModelQuestion {
  readonly name: string
  readonly version: string
}

/** Answers `ServerMetadata`. */
export function describeServer({
  name,
  version,
  extensions = EXTENSIONS,
}: ServerIdentity): MessageInitShape<typeof ServerMetadataResponseSchema> {
  return { name, version, extensions: [...extensions] }
}

/**
 * Answers `ModelMetadata`; a version that is loaded on demand is loaded for it. Rejects with NOT_FOUND, UNAVAILABLE or why the
 * version cannot be had.
 */
export async function describeModel(
  models: ModelTable,
  { name, version }: ModelQuestion,
): Promise<MessageInitShape<typeof ModelMetadataResponseSchema>> {
  const { signature, number, platform } = await models.acquire(name, version)
  return {
    name,
    versions: version === '' ? [...models.readyVersions(name)] : [number],
    platform,
    inputs: signature.inputs.map(metadataOf),
    outputs: signature.outputs.map(metadataOf),
  }
}

function metadataOf({ name, datatype, shape }: TensorSpec) {
  return { name, datatype, shape: shape.map(BigInt) }
}
