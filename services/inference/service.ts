/** The Open Inference Protocol over gRPC: what is asked about the server and its models, and the two hot methods. */

import { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import { type Handlers, type Implementation, implement, implementRawStream, implementRawUnary } from '@slipway/rpc'
import type { Inference } from './infer.ts'
import { describeConfig, type ExecutionFacts } from './model-config.ts'
import { describeModel, describeServer, type ServerIdentity } from './model-metadata.ts'
import type { ModelTable } from './model-table.ts'
import { describeRepository, loadModel, type ModelRepository, unloadModel } from './repository.ts'
import type { Statistics } from './statistics.ts'

/** What the calls that run no model need from around them. */
export interface DescribingOptions {
  readonly models: ModelTable
  readonly identity: ServerIdentity
  /** False until what should be served after a start is loaded, and while the server stops. */
  readonly isReady: () => boolean
  /** How versions are run that say nothing else. */
  readonly execution: ExecutionFacts
  readonly statistics: Statistics
  /** Where models come from when they are asked for by name; without it they cannot be. */
  readonly repository?: ModelRepository
}

type All = Handlers<typeof GRPCInferenceService>
type Described = Exclude<keyof All, 'modelInfer' | 'modelStreamInfer'>

/** Handlers of the calls that run no model; the same over gRPC and HTTP. */
export type DescribingHandlers = {
  readonly [M in Described]: (request: Parameters<All[M]>[0]) => ReturnType<All[M]>
}

/** Makes the handlers of the calls that run no model. */
export function createDescribingHandlers(options: DescribingOptions): DescribingHandlers {
  const { models, identity, isReady, execution, statistics, repository } = options
  return {
    serverLive: async () => ({ live: true }),
    serverReady: async () => ({ ready: isReady() }),
    modelReady: async ({ name, version }) => ({ ready: isReady() && models.isReady(name, version) }),
    serverMetadata: async () => describeServer(identity),
    modelMetadata: async (question) => describeModel(models, question),
    modelConfig: async (question) => describeConfig(models, question, execution),
    modelStatistics: async (question) => statistics.describe(question),
    repositoryIndex: async (request) => describeRepository(models, request),
    repositoryModelLoad: async (request) => loadModel(repository, request),
    repositoryModelUnload: async (request) => unloadModel(repository, request),
  }
}

/** Makes everything that answers `inference.GRPCInferenceService`. */
export function createInferenceService(
  inference: Inference,
  describing: DescribingHandlers,
): readonly Implementation[] {
  const { modelInfer, modelStreamInfer } = GRPCInferenceService.method
  return [
    implement(GRPCInferenceService, describing),
    implementRawUnary(modelInfer, (request, call) => inference.unary(request, call)),
    implementRawStream(modelStreamInfer, (stream) => inference.stream(stream)),
  ]
}
