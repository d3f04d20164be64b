/** The traffic router as a process. */
import { join } from 'node:path'
import type { Environment } from '@slipway/config'
import { openSpool } from '@slipway/events'
import { RoutingService } from '@slipway/proto/slipway/routing/v1/routing_service'
import { createServer, implement, readTlsFiles } from '@slipway/rpc'
import { openBus, type RunningService, runAsProcess } from '@slipway/service'
import { logger, startTelemetry } from '@slipway/telemetry'
import { AliasFollower } from './alias-follower.ts'
import { Attributions } from './attributions.ts'
import { loadConfig } from './config.ts'
import { Deployment } from './deployment.ts'
import { openEndpointStore } from './endpoint-store.ts'
import { ExplainingLog } from './explanation.ts'
import { InferenceWatch } from './inference-watch.ts'
import { Observer } from './observer.ts'
import { createOipService } from './oip-service.ts'
import { Outbox } from './outbox.ts'
import { PredictionLog } from './prediction-log.ts'
import { createPredictionService } from './prediction-service.ts'
import { createRoutingService } from './routing-service.ts'
import { RoutingTable } from './routing-table.ts'
import { connectUpstreams } from './upstreams.ts'
import { createVersionSource } from './versions.ts'

/** Starts the traffic router; the other services may come later. Throws ConfigError. */
export async function start(env: Environment): Promise<RunningService> {
  const config = loadConfig(env)
  const log = logger('slipway.traffic-router')
  const telemetry = startTelemetry({ serviceName: 'slipway-traffic-router', env })
  const tls = config.tls === undefined ? undefined : readTlsFiles(config.tls)
  const store = await openEndpointStore(join(config.dataDirectory, 'router.db'))
  const bus = openBus(config, 'slipway-traffic-router')
  const spool = openSpool({
    bus,
    directory: join(config.dataDirectory, 'spool'),
    maxBytes: config.spoolMaxBytes,
    maxBufferedRecords: config.spoolMaxRecords,
  })
  const directory = join(config.dataDirectory, 'feedback')
  const outbox = await Outbox.open({ directory, bus, maxBytes: config.feedbackMaxBytes, log })
  const upstreams = connectUpstreams(config, tls?.client, () => inference.suspect())
  const { pool, features, registry, modelControl } = upstreams

  const table = new RoutingTable()
  const source = createVersionSource({ registry, modelControl, loadTimeoutMs: config.loadTimeoutMs })
  const deployment = new Deployment({ store, table, source, requireGate: config.requireGate, now: Date.now })
  await deployment.restore()
  const follower = new AliasFollower({ registry, deployment, store, table, log })
  const draining = new AbortController()
  const predictions = new PredictionLog((record) => spool.offer(record))
  const attributions = new Attributions(
    {
      timeoutMs: config.explainTimeoutMs,
      maxInFlight: config.explainMaxInFlight,
      maxWaiting: config.explainMaxWaiting,
      maxWaitingBytes: config.explainMaxWaitingBytes,
    },
    log,
  )
  const explaining = new ExplainingLog({
    log: predictions,
    attributions,
    ask: upstreams.explain,
    maxEvaluations: config.explainMaxEvaluations,
  })
  const observer = new Observer()
  const { defaultTimeoutMs } = config
  const inference = new InferenceWatch({ client: upstreams.inference, deployment, log })
  const server = createServer({
    implementations: [
      ...createPredictionService({ table, features, pool, log: explaining, outbox, observer, defaultTimeoutMs }),
      ...createOipService({ table, pool, inference, log: predictions, explaining, observer, defaultTimeoutMs }),
      implement(RoutingService, createRoutingService({ deployment, table, draining: draining.signal })),
    ],
    listen: config.listen,
    tls: tls?.server,
    behindMesh: config.insecureBehindMesh,
    limits: { maxRequestBytes: config.maxRequestBytes },
    onError: (failure, { method }) => log.error('a call failed', { method, error: failure }),
  })
  inference.start(server.health)
  const { address } = await server.start()
  follower.start()
  log.info('the traffic router answers', { address, endpoints: table.list().length })

  return {
    address,
    stop: async () => {
      draining.abort()
      await Promise.all([follower.stop(), inference.stop()])
      await server.drain({ graceMs: config.drainGraceMs })
      attributions.close()
      predictions.flush()
      await spool.close()
      await outbox.close()
      upstreams.close()
      await bus.close()
      await store.close()
      await telemetry.shutdown()
    },
  }
}

await runAsProcess(import.meta.url, process, start)
