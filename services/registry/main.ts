import { join } from 'node:path'
import type { Environment } from '@slipway/config'
import { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import { ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { createClient, createServer, implement, readTlsFiles } from '@slipway/rpc'
import { openBus, type RunningService, runAsProcess } from '@slipway/service'
import { migrate, openFileBlobs, openSqlite } from '@slipway/storage'
import { logger, startTelemetry } from '@slipway/telemetry'
import { Aliases } from './aliases.ts'
import { loadConfig, type RegistryConfig } from './config.ts'
import { Gates } from './gate.ts'
import { Ledger } from './ledger.ts'
import { Models } from './models.ts'
import { startOutbox } from './outbox.ts'
import { migrations, type Schema } from './schema.ts'
import { inferenceScorer } from './scorer.ts'
import { createRegistryService } from './service.ts'
import { startSweeper } from './sweeper.ts'
import { nowMicros } from './time.ts'
import { Uploads } from './uploads.ts'
import { Versions } from './versions.ts'

/** Starts the registry; throws a ConfigError that names every setting that is wrong. */
export async function start(env: Environment): Promise<RunningService> {
  const config = loadConfig(env)
  const log = logger('slipway.registry')
  // What is opened here is closed in reverse: when a later step fails, or when the service stops.
  await using opened = new AsyncDisposableStack()
  opened.adopt(startTelemetry({ serviceName: 'slipway-registry', env }), (telemetry) => telemetry.shutdown())
  const path = join(config.dataDirectory, 'registry.db')
  const database = opened.adopt(openSqlite<Schema>({ path }), (opened) => opened.destroy())
  await migrate(database, migrations)
  const blobs = openFileBlobs({ directory: join(config.dataDirectory, 'files') })
  const bus = opened.adopt(openBus(config, 'slipway-registry'), (opened) => opened.close())
  const tls = config.tls && readTlsFiles(config.tls)
  const toInference = { address: config.inferenceAddress, tls: tls?.client }
  const control = opened.adopt(createClient(ModelControlService, toInference), (client) => client.close())
  const inference = opened.adopt(createClient(GRPCInferenceService, toInference), (client) => client.close())
  const stopping = new AbortController()

  const ledger = new Ledger({ database, nowMicros })
  const gates = new Gates({
    ledger,
    blobs,
    scorer: inferenceScorer({ control, inference, ...scoring(config) }),
    maxGoldenSetBytes: config.maxGoldenSetBytes,
    maxConcurrentRuns: config.maxConcurrentGateRuns,
  })
  const service = createRegistryService({
    ledger,
    gates,
    models: new Models({ ledger, checkGate: async (gate, field) => await gates.check(gate, field) }),
    versions: new Versions({ ledger, blobs, maxGraphBytes: config.maxGraphBytes }),
    aliases: new Aliases({ ledger }),
    uploads: new Uploads({ database, blobs, nowMicros, maxFileBytes: config.maxFileBytes }),
    watch: { batchSize: 256, heartbeatMs: config.watchHeartbeatMs },
    stopping: stopping.signal,
  })
  opened.adopt(startOutbox({ ledger, bus, batchSize: 256, maxWaitMs: 5000 }), (outbox) => outbox.stop())
  opened.adopt(startSweeper({ blobs, idleMs: config.uploadIdleMs }), (sweeper) => sweeper.stop())
  const server = createServer({
    implementations: [implement(RegistryService, service)],
    listen: config.listen,
    tls: tls?.server,
    behindMesh: config.insecureBehindMesh,
    onError: (failure, { method }) => log.error('a call failed', { method, error: failure }),
  })
  const { address } = await server.start()
  opened.defer(() => server.drain({ graceMs: config.drainGraceMs }))
  opened.defer(() => stopping.abort())
  log.info('the registry answers', { address })
  const running = opened.move()
  return { address, stop: () => running.disposeAsync() }
}

function scoring(config: RegistryConfig) {
  return {
    maxRowsPerCall: config.gateRowsPerCall,
    loadTimeoutMs: config.gateLoadTimeoutMs,
    inferTimeoutMs: config.gateInferTimeoutMs,
  }
}

await runAsProcess(import.meta.url, process, start)
