/** The feature store as a process. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ConfigError, type Environment } from '@slipway/config'
import { openEmbeddedBus, openKafkaBus } from '@slipway/events'
import { FeatureStoreService } from '@slipway/proto/slipway/features/v1/feature_store_service'
import { createServer, implement, readTlsFiles } from '@slipway/rpc'
import { migrate, openFileBlobs, openSqlite } from '@slipway/storage'
import { logger, startTelemetry } from '@slipway/telemetry'
import { type FeatureStoreConfig, loadConfig } from './config.ts'
import { Datasets } from './datasets.ts'
import { FeatureServices } from './feature-services.ts'
import { keepForgetting } from './forgetting.ts'
import { startIngestion } from './ingestion.ts'
import { Journal } from './journal.ts'
import { openDuckDbOfflineStore } from './offline-store/duckdb.ts'
import { openRowTables } from './online-store/row-tables.ts'
import { SqliteOnlineStore } from './online-store/sqlite.ts'
import { Parts } from './parts.ts'
import { migrations, type Schema } from './schema.ts'
import { createFeatureStoreService } from './service.ts'
import { systemClock } from './time.ts'
import { Views } from './views.ts'
import { Writes } from './writes.ts'

const housekeepingMs = 60_000

/** A running feature store. */
export interface RunningService {
  /** Where it answers, `host:port`. */
  readonly address: string
  /** Drains and stops. */
  stop(): Promise<void>
}

/** Starts the feature store; the bus may come later. Throws ConfigError. */
export async function start(env: Environment): Promise<RunningService> {
  const config = loadConfig(env)
  const log = logger('slipway.feature-store')
  const telemetry = startTelemetry({ serviceName: 'slipway-feature-store', env })
  const tls = config.tls === undefined ? undefined : readTlsFiles(config.tls)
  const inData = (...parts: string[]) => join(config.dataDirectory, ...parts)
  const clock = systemClock()
  const database = openSqlite<Schema>({ path: inData('definitions.db') })
  await migrate(database, migrations)
  const rows = await openRowTables(inData('rows.db'))
  const journal = new Journal(rows)
  const online = new SqliteOnlineStore({ database: rows, journal })
  const offline = openDuckDbOfflineStore({
    threads: config.offlineThreads,
    memoryMiB: Math.floor(config.offlineMemoryBytes / 2 ** 20),
    tempDirectory: inData('work', 'duckdb'),
  })
  const blobs = openFileBlobs({ directory: inData('files') })
  const bus = openBus(config)

  const views = new Views({ database, clock })
  await views.load()
  const services = new FeatureServices({ database, views, clock })
  await services.load()
  const writes = new Writes({ store: online, view: (id) => views.newest(id), clock })
  const newestViews = () => views.list().map(({ name }) => views.get(name).version)
  const parts = new Parts({
    journal,
    offline,
    databasePath: inData('rows.db'),
    directory: inData('parts'),
    views: newestViews,
    flushRows: config.flushRows,
    onError: (error) => log.error('rows could not be moved into a part; the journal keeps them', { error }),
  })
  const datasets = new Datasets({ database, blobs, services, parts, offline, clock, workDirectory: inData('work') })
  const stopping = new AbortController()
  const { maxSpineBytes } = config
  const service = {
    views,
    services,
    writes,
    online,
    parts,
    datasets,
    blobs,
    clock,
    maxSpineBytes,
    stopping: stopping.signal,
  }
  const server = createServer({
    implementations: [implement(FeatureStoreService, createFeatureStoreService(service))],
    listen: config.listen,
    tls: tls?.server,
    behindMesh: config.insecureBehindMesh,
    limits: { maxRequestBytes: config.maxRequestBytes },
    onError: (failure, { method }) => log.error('a call failed', { method, error: failure }),
  })
  const { address } = await server.start()
  const ingestion = startIngestion(bus, writes)
  const rememberMicros = BigInt(config.rememberMs) * 1000n
  const onError = (error: unknown) => log.error('old rows could not be forgotten', { error })
  const housekeeping = [
    parts.run(housekeepingMs, stopping.signal),
    keepForgetting(
      { store: online, views: newestViews, rememberMicros, everyMs: housekeepingMs, onError },
      stopping.signal,
    ),
  ]
  log.info('the feature store answers', { address })

  return {
    address,
    stop: async () => {
      stopping.abort()
      await server.drain({ graceMs: config.drainGraceMs })
      await (await ingestion).stop()
      await Promise.all(housekeeping)
      await bus.close()
      await offline.close()
      rows.close()
      await database.destroy()
      await telemetry.shutdown()
    },
  }
}

function openBus({ kafkaBrokers, eventsPath }: FeatureStoreConfig) {
  if (kafkaBrokers.length === 0) return openEmbeddedBus({ path: eventsPath })
  return openKafkaBus({ brokers: kafkaBrokers, clientId: 'slipway-feature-store' })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const running = await start(process.env)
    const stop = (): void => void running.stop().then(() => process.exit(0))
    process.once('SIGINT', stop).once('SIGTERM', stop)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    process.stderr.write(`${error.message}\n`)
    process.exit(2)
  }
}
