import { join } from 'node:path'
import type { Environment } from '@slipway/config'
import { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import { ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { createClient, createServer, implement, type RpcServer, readTlsFiles } from '@slipway/rpc'
import { type RunningService, runAsProcess } from '@slipway/service'
import { logger, startTelemetry } from '@slipway/telemetry'
import { ArtifactCache } from './artifact-cache.ts'
import { type InferenceConfig, loadConfig } from './config.ts'
import { createThreadExecutor } from './executors/thread-executor.ts'
import { createInference } from './infer.ts'
import { createModelControlService } from './model-control.ts'
import { ModelHealth } from './model-health.ts'
import { fetchFromRegistry, ModelSource } from './model-source.ts'
import { ModelTable } from './model-table.ts'
import { createLoadLog, createObserver } from './observer.ts'
import { RegistryState } from './registry-state.ts'
import { watchRegistry } from './registry-watch.ts'
import type { ResidencyPolicy } from './residency.ts'
import { Residency } from './residency-loop.ts'
import { createResponseCache } from './response-cache/response-cache.ts'
import { ServedVersion } from './served-version.ts'
import { createDescribingHandlers, createInferenceService } from './service.ts'
import { Statistics } from './statistics.ts'
import { ThreadBudget } from './thread-budget.ts'

/** Starts the inference service; throws a ConfigError that names every setting that is wrong. */
export async function start(env: Environment): Promise<RunningService> {
  const config = loadConfig(env)
  const log = logger('slipway.inference')
  const telemetry = startTelemetry({ serviceName: 'slipway-inference', env })
  const tls = config.tls === undefined ? undefined : readTlsFiles(config.tls)
  const registry = createClient(RegistryService, { address: config.registryAddress, tls: tls?.client })
  const state = await RegistryState.open(join(config.dataDirectory, 'registry.json'))
  const cache = new ArtifactCache({
    directory: join(config.dataDirectory, 'cache'),
    maxBytes: config.maxCacheBytes,
    fetch: fetchFromRegistry(registry),
    held: () => state.fileDigests(),
  })
  const models = new ModelTable()
  const source = new ModelSource({ registry, state, cache, layoutDirectory: join(config.dataDirectory, 'layout') })
  const observer = createObserver(log, models)
  const statistics = new Statistics(models)
  const onBatch: typeof observer.onBatch = (version, batch, result) => {
    statistics.onBatch(version, batch, result)
    observer.onBatch(version, batch, result)
  }
  const run = { ...runOptions(config), ...observer, onBatch }
  const keepResponses = createResponseCache(config)
  const residency = new Residency({
    state,
    source,
    models,
    defaultAlias: config.defaultAlias,
    start: async (name) => keepResponses(await ServedVersion.start(await source.open(name), run)),
    policy: policyOf(config),
    ...createLoadLog(log),
  })
  let isReady = false
  let isStopping = false
  const inference = createInference({ models, statistics, maxRequestRows: config.maxQueueRows })
  const describing = createDescribingHandlers({
    models,
    identity: config.identity,
    isReady: () => isReady,
    execution: { ...config, keepsResponses: config.maxCachedResponseBytes > 0 },
    statistics,
  })
  const server = createServer({
    implementations: [
      ...createInferenceService(inference, describing),
      implement(ModelControlService, createModelControlService(models, residency)),
    ],
    listen: config.listen,
    tls: tls?.server,
    behindMesh: config.insecureBehindMesh,
    limits: { maxRequestBytes: config.maxRequestBytes },
    onError: (failure, { method }) => log.error('a call failed', { method, error: failure }),
  })
  tellHealth(server, false)
  new ModelHealth(models, server.health)
  residency.followAliases()
  const { address } = await server.start()
  const watch = watchRegistry({
    registry,
    state,
    firstDelayMs: 100,
    maxDelayMs: 5000,
    onMove: () => residency.followAliases(),
    onCaughtUp: () => log.info('caught up with the registry', { revision: state.revision }),
    onBroken: (failure) =>
      log.warn('the registry cannot be watched; what is loaded goes on', { reason: failure.message }),
  })
  const settled = residency.settled().then(() => {
    isReady = !isStopping
    if (isReady) tellHealth(server, true)
  })
  log.info('the inference service answers', { address })

  return {
    address,
    stop: async () => {
      isReady = false
      isStopping = true
      await watch.stop()
      await server.drain({ graceMs: config.drainGraceMs })
      await residency.stop()
      await settled
      observer.stop()
      registry.close()
      await telemetry.shutdown()
    },
  }
}

/** The server as a whole is as healthy as its predictions. */
function tellHealth({ health }: RpcServer, isServing: boolean): void {
  for (const service of ['', GRPCInferenceService.typeName]) health.set(service, isServing)
}

function policyOf({ idleMs, maxLoadedBytes }: InferenceConfig): ResidencyPolicy {
  return { maxLoading: 2, idleMs, maxLoadedBytes, retryMs: 500, maxRetryMs: 30_000 }
}

function runOptions(config: InferenceConfig) {
  const { maxBatchRows, maxBatchBytes, maxQueueRows, maxQueueWaitMs } = config
  return {
    limits: { maxBatchRows, maxBatchBytes, maxQueueRows, maxQueueWaitMs },
    budget: new ThreadBudget(config.threads),
    startExecutor: createThreadExecutor(),
    executorsPerVersion: config.executorsPerVersion,
    intraOpThreads: config.intraOpThreads,
    restartPolicy: { firstDelayMs: 100, maxDelayMs: 10_000, maxDeaths: config.maxExecutorDeaths, windowMs: 600_000 },
  }
}

await runAsProcess(import.meta.url, process, start)
