/** One typed client for each service of a running Slipway. */
import type { DescService } from '@bufbuild/protobuf'
import {
  Health as HealthService,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '@slipway/proto/grpc/health/v1/health'
import { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import { DriftService } from '@slipway/proto/slipway/drift/v1/drift_service'
import { FeatureStoreService } from '@slipway/proto/slipway/features/v1/feature_store_service'
import { BatchPredictionService } from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import { ExplainService } from '@slipway/proto/slipway/inference/v1/explain_service'
import { ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { ProfileService } from '@slipway/proto/slipway/inference/v1/profile_service'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { PredictionService } from '@slipway/proto/slipway/routing/v1/prediction_service'
import { RoutingService } from '@slipway/proto/slipway/routing/v1/routing_service'
import { type CallOptions, type Client, type ClientOptions, createClient } from '@slipway/rpc'

/** The five services. */
export type ServiceName = 'trafficRouter' | 'registry' | 'featureStore' | 'inference' | 'driftMonitor'

/** Where each service listens, as `host:port`. */
export type Addresses = Readonly<Record<ServiceName, string>>

/** Where `npm start` puts the services. */
export const defaultAddresses: Addresses = {
  trafficRouter: '127.0.0.1:7400',
  registry: '127.0.0.1:7401',
  featureStore: '127.0.0.1:7402',
  inference: '127.0.0.1:7403',
  driftMonitor: '127.0.0.1:7404',
}

/** What a service says of itself; `unreachable` when nothing answers. */
export type Health = 'serving' | 'not serving' | 'unreachable'

/** How to reach the services; addresses that are left out are those of `npm start`. */
export interface ConnectOptions extends Omit<ClientOptions, 'address'> {
  readonly addresses?: Partial<Addresses>
  /** Who calls, for the registry's history; unless given, it notes the address of the caller. */
  readonly actor?: string | undefined
}

/** Typed clients for all services. Nothing connects before its first call. */
export interface Slipway {
  readonly addresses: Addresses
  readonly registry: Client<typeof RegistryService>
  readonly features: Client<typeof FeatureStoreService>
  /** The Open Inference Protocol on the inference server itself: models by registry id, versions by number. */
  readonly inference: Client<typeof GRPCInferenceService>
  /** Why the inference server answers as it does. */
  readonly explanations: Client<typeof ExplainService>
  /** How a version is best run on the inference server's machine. */
  readonly profiles: Client<typeof ProfileService>
  /** Predictions for every row of files. */
  readonly batchPredictions: Client<typeof BatchPredictionService>
  /** What the inference server holds ready. */
  readonly modelControl: Client<typeof ModelControlService>
  readonly routing: Client<typeof RoutingService>
  readonly predictions: Client<typeof PredictionService>
  /** The Open Inference Protocol on the router: endpoint names as model names. */
  readonly endpoints: Client<typeof GRPCInferenceService>
  readonly drift: Client<typeof DriftService>
  /** Asks a service how it is; never fails. */
  health(service: ServiceName): Promise<Health>
  /** Closes all connections; calls in flight finish. */
  close(): void
}

const healthTimeoutMs = 2000
const actorHeader = 'x-slipway-actor'

/** Makes the clients. */
export function connect(options: ConnectOptions = {}): Slipway {
  const { addresses: given, actor, ...clientOptions } = options
  const addresses: Addresses = { ...defaultAddresses, ...given }
  const closing: (() => void)[] = []
  const clientOf = <S extends DescService>(service: S, name: ServiceName): Client<S> => {
    const client = createClient(service, { ...clientOptions, address: addresses[name] })
    closing.push(() => client.close())
    return client
  }
  return {
    addresses,
    registry: withHeaders(clientOf(RegistryService, 'registry'), actor === undefined ? {} : { [actorHeader]: actor }),
    features: clientOf(FeatureStoreService, 'featureStore'),
    inference: clientOf(GRPCInferenceService, 'inference'),
    explanations: clientOf(ExplainService, 'inference'),
    profiles: clientOf(ProfileService, 'inference'),
    batchPredictions: clientOf(BatchPredictionService, 'inference'),
    modelControl: clientOf(ModelControlService, 'inference'),
    routing: clientOf(RoutingService, 'trafficRouter'),
    predictions: clientOf(PredictionService, 'trafficRouter'),
    endpoints: clientOf(GRPCInferenceService, 'trafficRouter'),
    drift: clientOf(DriftService, 'driftMonitor'),
    health: (name) => checkHealth({ ...clientOptions, address: addresses[name] }),
    close: () => {
      for (const close of closing) close()
    },
  }
}

async function checkHealth(options: ClientOptions): Promise<Health> {
  const client = createClient(HealthService, options)
  try {
    const { status } = await client.check({}, { timeoutMs: healthTimeoutMs })
    return status === ServingStatus.SERVING ? 'serving' : 'not serving'
  } catch {
    return 'unreachable'
  } finally {
    client.close()
  }
}

/** The same client, with headers that every call carries. */
function withHeaders<S extends DescService>(client: Client<S>, headers: Readonly<Record<string, string>>): Client<S> {
  const calls = Object.entries(client as Readonly<Record<string, (...words: unknown[]) => unknown>>)
  const wrapped = calls.map(([name, call]) => {
    const withThem = (request: unknown, options?: CallOptions) =>
      call(request, { ...options, headers: { ...headers, ...options?.headers } })
    return [name, name === 'close' ? call : withThem] as const
  })
  return Object.fromEntries(wrapped) as unknown as Client<S>
}
