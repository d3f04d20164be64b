/** The feature store as a process. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Environment } from '@slipway/config'
import { FeatureStoreService } from '@slipway/proto/slipway/features/v1/feature_store_service'
import { createServer, implement, readTlsFiles } from '@slipway/rpc'
import { openBus, type RunningService, runAsProcess } from '@slipway/service'
import { migrate, openFileBlobs, openSqlite } from '@slipway/storage'
import { logger, startTelemetry } from '@slipway/telemetry'
import { loadConfig } from './config.ts'
import { Datasets } from './datasets.ts'
import { FeatureServices } from './feature-services.ts'
import { startHousekeeping } from './housekeeping.ts'
import { startIngestion } from './ingestion.ts'
import { Journal } from './journal.ts'
import { openDuckDbOfflineStore } from './offline-store/duckdb.ts'
import { keptTableIds, openRowTables } from './online-store/row-tables.ts'
import { SqliteOnlineStore } from './online-store/sqlite.ts'
import { Parts } from './parts.ts'
import { stopped } from './refusals.ts'
import { migrations, type Schema } from './schema.ts'
import { createFeatureStoreService } from './service.ts'
import { systemClock } from './time.ts'
import { Views } from './views.ts'
import { Writes } from './writes.ts'

/** Starts the feature store; the bus may come later. Throws ConfigError. */
export async function start(env: Environment): Promise<RunningService> {
  const config = loadConfig(env)
  const log = logger('slipway.feature-store')
  const clock = systemClock()
  const inData = (...parts: string[]) => join(config.dataDirectory, ...parts)
  const workDirectory = inData('work')
  // What is opened here is closed in reverse: when a later step fails, or when the service stops.
  await using opened = new AsyncDisposableStack()
  opened.adopt(startTelemetry({ serviceName: 'slipway-feature-store', env }), (telemetry) => telemetry.shutdown())
  // What a process that was killed was making nobody waits for any more.
  rmSync(workDirectory, { recursive: true, force: true })
  const database = opened.adopt(openSqlite<Schema>({ path: inData('definitions.db') }), (open) => open.destroy())
  await migrate(database, migrations)
  const rows = opened.adopt(await openRowTables(inData('rows.db')), (open) => open.close())
  const limits = {
    threads: config.offlineThreads,
    memoryMiB: Math.floor(config.offlineMemoryBytes / 2 ** 20),
    tempDirectory: join(workDirectory, 'duckdb'),
  }
  const offline = opened.adopt(openDuckDbOfflineStore(limits), (open) => open.close())
  const blobs = openFileBlobs({ directory: inData('files') })
  const tls = config.tls && readTlsFiles(config.tls)

  const views = new Views({ database, clock })
  await views.load()
  const services = new FeatureServices({ database, views, clock })
  await services.load()
  const journal = new Journal(rows)
  const online = new SqliteOnlineStore({ database: rows, journal })
  const writes = new Writes({ store: online, view: (id) => views.newest(id), clock })
  const parts = new Parts({
    journal,
    offline,
    databasePath: inData('rows.db'),
    directory: inData('parts'),
    views: () => views.versions(),
    flushRows: config.flushRows,
    onError: (error) => log.error('rows could not be moved into a part; the journal keeps them', { error }),
  })
  await dropOrphans(keptTableIds(rows), views, { online, parts })
  const datasets = new Datasets({ database, blobs, services, parts, offline, clock, workDirectory })
  const { maxSpineBytes, listen, insecureBehindMesh: behindMesh, maxRequestBytes } = config
  const stopping = new AbortController()
  const stop = stopping.signal
  const answering = { views, services, writes, online, parts, datasets, blobs, clock, maxSpineBytes, stopping: stop }
  const server = createServer({
    implementations: [implement(FeatureStoreService, createFeatureStoreService(answering))],
    listen,
    tls: tls?.server,
    behindMesh,
    limits: { maxRequestBytes },
    onError: (failure, { method }) => log.error('a call failed', { method, error: failure }),
  })
  const housekeeping = startHousekeeping({ parts, online, blobs, views, clock, config }, stop)
  opened.defer(() => {
    stopping.abort(stopped())
    return housekeeping
  })
  const bus = opened.adopt(openBus(config, 'slipway-feature-store'), (open) => open.close())
  // Its reader starts when the bus is there and ends with it.
  startIngestion(bus, writes).catch((error: unknown) => stop.aborted || log.error('rows of the bus wait', { error }))
  const { address } = await server.start()
  opened.defer(() => server.drain({ graceMs: config.drainGraceMs }))
  opened.defer(() => stopping.abort(stopped()))
  log.info('the feature store answers', { address })
  const running = opened.move()
  return { address, stop: () => running.disposeAsync() }
}

/** A process that was killed while it removed a view may have left the view's rows. */
async function dropOrphans(
  tableIds: readonly number[],
  views: Views,
  { online, parts }: { online: SqliteOnlineStore; parts: Parts },
): Promise<void> {
  const known = new Set(views.versions().map(({ tableId }) => tableId))
  for (const tableId of tableIds.filter((id) => !known.has(id))) {
    await online.drop(tableId)
    parts.drop(tableId)
  }
}

await runAsProcess(import.meta.url, process, start)
