/** The services that the router calls. Nothing connects before the first call. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import { FeatureStoreService } from '@slipway/proto/slipway/features/v1/feature_store_service'
import { ExplainService } from '@slipway/proto/slipway/inference/v1/explain_service'
import { ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { type Client, type ClientTls, createClient, openRawChannel } from '@slipway/rpc'
import type { Config } from './config.ts'
import type { AskWhy } from './explanation.ts'
import { FeatureReader } from './features.ts'
import { InferencePool } from './inference-pool.ts'
import { failureOfStream } from './oip-message.ts'

/** Clients of the other services. */
export interface Upstreams {
  readonly pool: InferencePool
  readonly features: FeatureReader
  readonly registry: Client<typeof RegistryService>
  readonly modelControl: Client<typeof ModelControlService>
  readonly inference: Client<typeof GRPCInferenceService>
  readonly explain: AskWhy
  /** Closes all connections. */
  close(): void
}

/** Most reads of features that wait for a call of the feature store. */
export const MAX_WAITING_READS = 10_000
/** Longest pause before a service that was away is tried again; raw channels try with every call. */
const MAX_CONNECT_PAUSE_MS = 1_000

/** Makes the clients that the settings name; `onInferenceTrouble` hears when inference may have been restarted. */
export function connectUpstreams(
  config: Config,
  tls: ClientTls | undefined,
  onInferenceTrouble: () => void,
): Upstreams {
  const { inferenceStreams, featureReads, maxInFlight } = config
  const limits = { maxReconnectMs: MAX_CONNECT_PAUSE_MS }
  const toInference = openRawChannel({ address: config.inferenceAddress, tls, connections: inferenceStreams })
  const toFeatures = openRawChannel({ address: config.featureStoreAddress, tls })
  const registry = createClient(RegistryService, { address: config.registryAddress, tls, limits })
  const modelControl = createClient(ModelControlService, { address: config.inferenceAddress, tls, limits })
  const inference = createClient(GRPCInferenceService, { address: config.inferenceAddress, tls, limits })
  // A stream serves many requests: it must not inherit deadline and trace of the one that happened to open it.
  const outsideOfRequests = AsyncLocalStorage.snapshot()
  const explanations = createClient(ExplainService, { address: config.inferenceAddress, tls, limits })
  const pool = new InferencePool({
    openStream: () => outsideOfRequests(() => toInference.openStream(GRPCInferenceService.method.modelStreamInfer)),
    callUnary: async (request, deadlineMs) =>
      await toInference.callUnary(GRPCInferenceService.method.modelInfer, request, {
        timeoutMs: deadlineMs - Date.now(),
      }),
    failureOf: failureOfStream,
    onTrouble: onInferenceTrouble,
    streams: inferenceStreams,
    maxInFlight,
    maxInFlightBytes: config.maxInFlightBytes,
  })
  const features = new FeatureReader({
    call: async (request, deadlineMs) =>
      await toFeatures.callUnary(FeatureStoreService.method.getOnlineFeatures, request, {
        timeoutMs: Math.max(1, deadlineMs - Date.now()),
      }),
    maxCalls: featureReads,
    maxWaiting: MAX_WAITING_READS,
  })
  return {
    pool,
    features,
    registry,
    modelControl,
    inference,
    explain: async (request, deadlineMs) => {
      const timeoutMs = Math.max(1, deadlineMs - Date.now())
      return await outsideOfRequests(() => explanations.explain(request, { timeoutMs }))
    },
    close: () => {
      pool.close()
      for (const each of [toInference, toFeatures, registry, modelControl, inference, explanations]) each.close()
    },
  }
}
