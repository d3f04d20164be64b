/** The drift monitor as a process. */
import { join } from 'node:path'
import type { Environment } from '@slipway/config'
import { DriftService } from '@slipway/proto/slipway/drift/v1/drift_service'
import type { Incident } from '@slipway/proto/slipway/drift/v1/monitor'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { createClient, createServer, implement, readTlsFiles } from '@slipway/rpc'
import { openBus, type RunningService, runAsProcess } from '@slipway/service'
import { migrate, openSqlite } from '@slipway/storage'
import { logger, startTelemetry } from '@slipway/telemetry'
import { Baselines } from './baselines.ts'
import { loadConfig } from './config.ts'
import { startConsumers } from './consumers.ts'
import { observeOpenIncidents } from './incident-store.ts'
import { limits } from './limits.ts'
import { Monitors } from './monitors.ts'
import { startOutbox } from './outbox.ts'
import { Reports } from './report.ts'
import { migrations, type Schema } from './schema.ts'
import { createDriftService } from './service.ts'
import { Watchers } from './watchers.ts'

/** Starts the drift monitor; the registry may come later. Throws ConfigError. */
export async function start(env: Environment): Promise<RunningService> {
  const config = loadConfig(env)
  const log = logger('slipway.drift-monitor')
  const telemetry = startTelemetry({ serviceName: 'slipway-drift-monitor', env })
  const tls = config.tls === undefined ? undefined : readTlsFiles(config.tls)
  const database = openSqlite<Schema>({ path: join(config.dataDirectory, 'drift.db') })
  await migrate(database, migrations)
  const bus = openBus(config, 'slipway-drift-monitor')
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

await runAsProcess(import.meta.url, process, start)
