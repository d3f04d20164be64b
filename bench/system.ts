/** The services that a benchmark needs, each in a process of its own, with the benchmark's model loaded. */
import { createHash, randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { FeatureStoreService } from '@slipway/proto/slipway/features/v1/feature_store_service'
import { ValueType } from '@slipway/proto/slipway/features/v1/value'
import { ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { FeatureSource, FeatureType } from '@slipway/proto/slipway/registry/v1/model'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { RoutingService } from '@slipway/proto/slipway/routing/v1/routing_service'
import { createClient } from '@slipway/rpc'
import { benchModel, FEATURES } from './model.ts'
import { BenchProcess } from './processes.ts'

/** Name of the benchmark's model, view and feature service. */
export const MODEL = 'bench'
/** The endpoint that logs none of its predictions. */
export const QUIET_ENDPOINT = 'bench-quiet'
/** The endpoint that logs each of them. */
export const LOGGED_ENDPOINT = 'bench-logged'
/** The entity whose features are stored. */
export const ENTITY_KEY = 'somebody'

/** One service that runs. */
export interface RunningProcess {
  readonly process: BenchProcess
  readonly address: string
}

/** Starts services that all share a data folder, which goes with them. */
export interface Services {
  /** Its data lie in `folder` below the one that all share, by default in that itself. */
  start(name: string, env?: Readonly<Record<string, string>>, folder?: string): Promise<RunningProcess>
  stop(): Promise<void>
}

/** The system that predictions go through. */
export interface BenchSystem {
  readonly inference: RunningProcess
  readonly featureStore: RunningProcess
  readonly router: RunningProcess
  stop(): Promise<void>
}

/** Starts registry, inference, feature store and router, and prepares a model, features and endpoints. */
export async function startSystem(): Promise<BenchSystem> {
  const services = await createServices()
  try {
    const registry = await services.start('registry')
    const inference = await services.start('inference', { SLIPWAY_REGISTRY_ADDRESS: registry.address })
    const featureStore = await services.start('feature-store')
    await storeFeatures(featureStore.address)
    const version = await registerModel(registry.address, inference.address)
    const router = await services.start('traffic-router', {
      SLIPWAY_REGISTRY_ADDRESS: registry.address,
      SLIPWAY_INFERENCE_ADDRESS: inference.address,
      SLIPWAY_FEATURE_STORE_ADDRESS: featureStore.address,
      SLIPWAY_TRAFFIC_ROUTER_REQUIRE_GATE: 'false',
    })
    await createEndpoints(router.address, version)
    return { inference, featureStore, router, stop: services.stop }
  } catch (error) {
    await services.stop()
    throw error
  }
}

/** Nothing runs yet. */
export async function createServices(): Promise<Services> {
  const directory = await mkdtemp(join(tmpdir(), 'slipway-bench-'))
  const processes: BenchProcess[] = []
  const common = { SLIPWAY_LISTEN: '127.0.0.1:0', SLIPWAY_LOG_LEVEL: 'error' }
  return {
    async start(name, env = {}, folder = '') {
      const settings = { ...common, SLIPWAY_DATA_DIR: join(directory, folder), ...env }
      const process = new BenchProcess(new URL('./servers/service.ts', import.meta.url), [name], settings)
      processes.push(process)
      return { process, address: await process.next<string>() }
    },
    async stop() {
      await Promise.all(processes.map((process) => process.stop()))
      await rm(directory, { recursive: true, force: true })
    },
  }
}

const featureNames = Array.from({ length: FEATURES }, (_, index) => `f${index}`)

async function storeFeatures(address: string): Promise<void> {
  const store = createClient(FeatureStoreService, { address })
  await store.createEntity({ entity: { name: 'entities/caller', joinKey: 'caller', type: ValueType.STRING } })
  const features = featureNames.map((name) => ({ name, type: ValueType.DOUBLE }))
  const view = 'featureViews/bench'
  await store.createFeatureView({ featureView: { name: view, entities: ['entities/caller'], features } })
  const references = featureNames.map((name) => `bench:${name}`)
  await store.createFeatureService({ featureService: { name: `featureServices/${MODEL}`, features: references } })
  const values = Object.fromEntries(
    featureNames.map((name, index) => [name, { kind: { case: 'doubleValue' as const, value: Math.sin(index) } }]),
  )
  const entityKeys = { caller: { kind: { case: 'stringValue' as const, value: ENTITY_KEY } } }
  const row = { featureView: view, entityKeys, values, eventTime: timestampFromMs(Date.now() - 60_000) }
  await store.writeFeatures({ rows: [row] })
  store.close()
}

async function registerModel(registryAddress: string, inferenceAddress: string): Promise<string> {
  const registry = createClient(RegistryService, { address: registryAddress })
  const control = createClient(ModelControlService, { address: inferenceAddress })
  const chunk = benchModel()
  const digest = `sha256:${createHash('sha256').update(chunk).digest('hex')}`
  async function* upload() {
    yield { uploadId: randomUUID(), chunk, digest }
  }
  await registry.createModel({ model: { name: `models/${MODEL}` } })
  await registry.uploadFile(upload())
  const version = await registry.createVersion({
    parent: `models/${MODEL}`,
    requestId: randomUUID(),
    files: [{ path: 'model.onnx', sizeBytes: BigInt(chunk.length), digest }],
    featureService: `featureServices/${MODEL}`,
    features: featureNames.map((feature, column) => ({
      feature,
      column,
      type: FeatureType.DOUBLE,
      source: FeatureSource.FEATURE_STORE,
      reference: `bench:${feature}`,
      input: 'features',
    })),
  })
  await control.loadVersion({ name: version.name, digest: version.digest })
  registry.close()
  control.close()
  return version.name
}

async function createEndpoints(address: string, version: string): Promise<void> {
  const routing = createClient(RoutingService, { address })
  const variants = [{ name: 'champion', target: version, weightBasisPoints: 10_000 }]
  for (const [id, rate] of [
    [QUIET_ENDPOINT, 0],
    [LOGGED_ENDPOINT, 1],
  ] as const) {
    await routing.createEndpoint({ endpoint: { name: `endpoints/${id}`, variants, predictionSamplingRate: rate } })
  }
  routing.close()
}
