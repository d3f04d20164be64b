import type { Environment } from '@slipway/config'
import { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import { ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { createServer, type Failure, implement, type RpcServer, readTlsFiles } from '@slipway/rpc'
import { type RunningService, runAsProcess } from '@slipway/service'
import { logger, startTelemetry } from '@slipway/telemetry'
import { limitsFor } from './batching-settings.ts'
import { type InferenceConfig, loadConfig } from './config.ts'
import { openHttp } from './http/open.ts'
import { createInference } from './infer.ts'
import type { ExecutionFacts } from './model-config.ts'
import { createModelControlService } from './model-control.ts'
import { ModelHealth } from './model-health.ts'
import { openRooms } from './rooms.ts'
import { createDescribingHandlers, createInferenceService } from './service.ts'
import { openServing } from './serving.ts'

/** An answer may be as large as a request, and at least so large. */
const MIN_MAX_RESPONSE_BYTES = 64 * 1024 * 1024

/** Starts the inference service; throws a ConfigError that names every setting that is wrong. */
export async function start(env: Environment): Promise<RunningService & { readonly httpAddress: string }> {
  const config = loadConfig(env)
  const log = logger('slipway.inference')
  const telemetry = startTelemetry({ serviceName: 'slipway-inference', env })
  const tls = config.tls === undefined ? undefined : readTlsFiles(config.tls)
  const { models, statistics, run, origin, residency, hold, stop } = await openServing({
    config,
    log,
    tls: tls?.client,
  })
  let isReady = false
  let isStopping = false
  const inference = createInference({ models, statistics, maxRequestRows: config.maxQueueRows })
  const describing = createDescribingHandlers({
    models,
    identity: config.identity,
    isReady: () => isReady,
    repository: origin.repository(residency),
    execution: executionOf(config),
    statistics,
  })
  const rooms = await openRooms({ config, inference, models, run, source: origin.source, hold, tls: tls?.client })
  const onError = (failure: Failure, { method }: { readonly method: string }) =>
    log.error('a call failed', { method, error: failure })
  const http = openHttp(config, { models, inference, describing, tls: tls?.server, onError })
  const server = createServer({
    implementations: [
      ...createInferenceService(inference, describing),
      implement(ModelControlService, createModelControlService(models, residency)),
      ...rooms.implementations,
    ],
    listen: config.listen,
    tls: tls?.server,
    behindMesh: config.insecureBehindMesh,
    limits: messageLimits(config),
    onError,
  })
  tellHealth(server, false)
  new ModelHealth(models, server.health)
  origin.follow(residency)
  const { address } = await server.start()
  const httpAddress = await http.start()
  const settled = residency.settled().then(() => {
    isReady = !isStopping
    if (!isReady) return
    tellHealth(server, true)
    log.info('the models are loaded')
    rooms.start()
  })
  log.info('the inference service answers', { address, http: httpAddress })

  return {
    address,
    httpAddress,
    stop: async () => {
      isReady = false
      isStopping = true
      await origin.unfollow()
      await Promise.all([server.drain({ graceMs: config.drainGraceMs }), http.stop()])
      await rooms.stop()
      await stop()
      await settled
      await telemetry.shutdown()
    },
  }
}

/** What `ModelConfig` says of how models are run. */
function executionOf(config: InferenceConfig): ExecutionFacts {
  const { maxCachedResponseBytes, cachedModels } = config
  const keepsResponses = (model: string) => maxCachedResponseBytes > 0 && (cachedModels?.has(model) ?? true)
  return { ...config, ofModel: (model) => ({ ...limitsFor(config, model), keepsResponses: keepsResponses(model) }) }
}

function messageLimits({ maxRequestBytes }: InferenceConfig) {
  return { maxRequestBytes, maxResponseBytes: Math.max(maxRequestBytes, MIN_MAX_RESPONSE_BYTES) }
}

/** The server as a whole is as healthy as its predictions. */
function tellHealth({ health }: RpcServer, isServing: boolean): void {
  for (const service of ['', GRPCInferenceService.typeName]) health.set(service, isServing)
}

await runAsProcess(import.meta.url, process, start)
