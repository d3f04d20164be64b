/** The Open Inference Protocol: what is asked about the server and its models, and the two hot methods. */

import type { TensorSpec } from '@slipway/onnx'
import { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import { type Handlers, type Implementation, implement, implementRawStream, implementRawUnary } from '@slipway/rpc'
import { createInference } from './infer.ts'
import type { ModelTable } from './model-table.ts'

/** What the server says about itself; only what exists is an extension. */
export interface ServerIdentity {
  readonly name: string
  readonly version: string
}

const EXTENSIONS = ['binary_tensor_data', 'parameters', 'schedule_policy']

/** What the service needs from around it. */
export interface InferenceServiceOptions {
  readonly models: ModelTable
  readonly identity: ServerIdentity
  /** False until what should be served after a start is loaded, and while the server stops. */
  readonly isReady: () => boolean
}

type Described = 'serverLive' | 'serverReady' | 'modelReady' | 'serverMetadata' | 'modelMetadata'

/** Makes everything that answers `inference.GRPCInferenceService`. */
export function createInferenceService(options: InferenceServiceOptions): readonly Implementation[] {
  const inference = createInference(options.models)
  const { modelInfer, modelStreamInfer } = GRPCInferenceService.method
  return [
    implement(GRPCInferenceService, describingHandlers(options)),
    implementRawUnary(modelInfer, (request, call) => inference.unary(request, call)),
    implementRawStream(modelStreamInfer, (stream) => inference.stream(stream)),
  ]
}

function describingHandlers({
  models,
  identity,
  isReady,
}: InferenceServiceOptions): Pick<Handlers<typeof GRPCInferenceService>, Described> {
  return {
    async serverLive() {
      return { live: true }
    },
    async serverReady() {
      return { ready: isReady() }
    },
    async modelReady({ name, version }) {
      return { ready: isReady() && isModelReady(models, name, version) }
    },
    async serverMetadata() {
      return { ...identity, extensions: EXTENSIONS }
    },
    async modelMetadata({ name, version }) {
      const { signature, number, platform } = models.resolve(name, version)
      return {
        name,
        versions: version === '' ? [...models.readyVersions(name)] : [number],
        platform,
        inputs: signature.inputs.map(metadataOf),
        outputs: signature.outputs.map(metadataOf),
      }
    },
  }
}

function isModelReady(models: ModelTable, name: string, version: string): boolean {
  try {
    models.resolve(name, version)
    return true
  } catch {
    return false
  }
}

function metadataOf({ name, datatype, shape }: TensorSpec) {
  return { name, datatype, shape: shape.map(BigInt) }
}
