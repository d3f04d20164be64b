/** The drift monitor as a process. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ConfigError, type Environment } from '@slipway/config'
import { type EventBus, openEmbeddedBus, openKafkaBus } from '@slipway/events'
import { DriftService } from '@slipway/proto/slipway/drift/v1/drift_service'
import type { Incident } from '@slipway/proto/slipway/drift/v1/monitor'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { createClient, createServer, implement, readTlsFiles } from '@slipway/rpc'
import { migrate, openSqlite } from '@slipway/storage'
import { logger, startTelemetry } from '@slipway/telemetry'
import { Baselines } from './baselines.ts'
import { type DriftMonitorConfig, loadConfig } from './config.ts'
import { startConsumers } from './consumers.ts'
import { observeOpenIncidents } from './incident-store.ts'
import { limits } from './limits.ts'
import { Monitors } from './monitors.ts'
import { startOutbox } from './outbox.ts'
import { Reports } from './report.ts'
import { migrations, type Schema } from './schema.ts'
import { createDriftService } from './service.ts'
import { Watchers } from './watchers.ts'

/** A running drift monitor. */
export interface RunningService {
  /** Where it answers, `host:port`. */
  readonly address: string
  /** Drains and stops. */
  stop(): Promise<void>
}

/** Starts the drift monitor; the registry may come later. Throws ConfigError. */
export async function start(env: Environment): Promise<RunningService> {
  const config = loadConfig(env)
  const log = logger('slipway.drift-monitor')
  const telemetry = startTelemetry({ serviceName: 'slipway-drift-monitor', env })
  const tls = config.tls === undefined ? undefined : readTlsFiles(config.tls)
  const database = openSqlite<Schema>({ path: join(config.dataDirectory, 'drift-monitor', 'drift.db') })
  await migrate(database, migrations)
  const bus = openBus(config)
  const registry = createClient(RegistryService, { address: config.registryAddress, tls: tls?.client })
  const baselines = new Baselines({
    database,
    fetch: async (digest) => await registry.getVersion({ name: digest }),
    capacity: limits.baselines,
  })
  const unobserve = observeOpenIncidents(database)
  const nowMicros = () => BigInt(Date.now()) * 1000n
  const stopping = new AbortController()
  const watchers = new Watchers()
  const outbox = startOutbox({ database, bus })
  const onIncidents = (incidents: readonly Incident[]) => {
    outbox.wake()
    watchers.publish(incidents)
  }
  const monitors = new Monitors({ database, nowMicros })
  const reports = new Reports(database)
  const shared = { database, baselines, nowMicros, onIncidents }
  const service = createDriftService({ ...shared, monitors, reports, watchers, stopping: stopping.signal })
  const server = createServer({
    implementations: [implement(DriftService, service)],
    listen: config.listen,
    tls: tls?.server,
    behindMesh: config.insecureBehindMesh,
    onError: (failure, { method }) => log.error('a call failed', { method, error: failure }),
  })
  const { address } = await server.start()
  const { group, retentionHours } = config
  const consumers = startConsumers({ ...shared, bus, group, retentionHours })
  log.info('the drift monitor answers', { address })

  return {
    address,
    stop: async () => {
      stopping.abort()
      await server.drain({ graceMs: config.drainGraceMs })
      await consumers.stop()
      await outbox.stop()
      registry.close()
      await bus.close()
      unobserve()
      await database.destroy()
      await telemetry.shutdown()
    },
  }
}

function openBus({ kafkaBrokers, dataDirectory }: DriftMonitorConfig): EventBus {
  if (kafkaBrokers.length === 0) return openEmbeddedBus({ path: join(dataDirectory, 'events.db') })
  return openKafkaBus({ brokers: kafkaBrokers, clientId: 'slipway-drift-monitor' })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const running = await start(process.env)
    const stop = () => void running.stop().then(() => process.exit(0))
    process.once('SIGINT', stop).once('SIGTERM', stop)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    process.stderr.write(`${error.message}\n`)
    process.exit(2)
  }
}
