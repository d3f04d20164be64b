import { type Environment, readSettings, type SettingsReader, type SocketAddress } from '@slipway/config'
import type { TlsFiles } from '@slipway/rpc'

/** Settings of the feature store. */
export interface FeatureStoreConfig {
  /** Where it listens. */
  readonly listen: SocketAddress
  /** Folder of everything that it keeps. */
  readonly dataDirectory: string
  /** File of the embedded bus. */
  readonly eventsPath: string
  /** Kafka brokers; empty: the embedded bus. */
  readonly kafkaBrokers: readonly string[]
  /** PEM files for TLS; undefined: plain text. */
  readonly tls: TlsFiles | undefined
  /** A mesh in front encrypts, so plain text is allowed beyond loopback. */
  readonly insecureBehindMesh: boolean
  /** Largest request. */
  readonly maxRequestBytes: number
  /** Largest spine of a training set. */
  readonly maxSpineBytes: number
  /** How far behind its newest row a view can be read online, by event time. */
  readonly rememberMs: number
  /** Rows of a view in the journal from which on they become a Parquet part. */
  readonly flushRows: number
  /** Threads of the process that makes training sets. */
  readonly offlineThreads: number
  /** Memory of the process that makes training sets; beyond it, it works on disk. */
  readonly offlineMemoryBytes: number
  /** After how long an unfinished upload that nobody touches is dropped. */
  readonly uploadIdleMs: number
  /** How long calls in flight may take when the service stops. */
  readonly drainGraceMs: number
}

/** Reads the settings; throws one error that names every problem. */
export function loadConfig(env: Environment): FeatureStoreConfig {
  return readSettings(env, (read) => {
    const dataDir = read.text('SLIPWAY_DATA_DIR', { doc: 'folder for everything that is kept', default: '.slipway' })
    return {
      listen: read.address('SLIPWAY_LISTEN', { doc: 'where to listen', default: '127.0.0.1:7402' }),
      dataDirectory: `${dataDir}/feature-store`,
      eventsPath: `${dataDir}/events.db`,
      kafkaBrokers: read.list('SLIPWAY_KAFKA_BROKERS', { doc: 'Kafka brokers, separated by commas' }),
      tls: readTls(read),
      insecureBehindMesh: read.boolean('SLIPWAY_INSECURE_BEHIND_MESH', { doc: 'a mesh encrypts', default: false }),
      maxRequestBytes: read.bytes('SLIPWAY_FEATURE_STORE_MAX_REQUEST', { doc: 'largest request', default: '16MiB' }),
      maxSpineBytes: read.bytes('SLIPWAY_FEATURE_STORE_MAX_SPINE', { doc: 'largest spine', default: '4GiB' }),
      rememberMs: read.durationMs('SLIPWAY_FEATURE_STORE_REMEMBER', {
        doc: 'how far back online reads go, by event time',
        default: '30d',
      }),
      flushRows: read.integer('SLIPWAY_FEATURE_STORE_FLUSH_ROWS', {
        doc: 'rows of a view that become a Parquet part',
        default: 50_000,
        min: 1,
      }),
      offlineThreads: read.integer('SLIPWAY_FEATURE_STORE_THREADS', {
        doc: 'threads for training sets',
        default: 2,
        min: 1,
      }),
      offlineMemoryBytes: read.bytes('SLIPWAY_FEATURE_STORE_MEMORY', {
        doc: 'memory for training sets',
        default: '768MiB',
      }),
      uploadIdleMs: read.durationMs('SLIPWAY_FEATURE_STORE_UPLOAD_IDLE', {
        doc: 'an unfinished upload that nobody touches is dropped',
        default: '1d',
      }),
      drainGraceMs: read.durationMs('SLIPWAY_FEATURE_STORE_DRAIN_GRACE', {
        doc: 'for calls in flight',
        default: '10s',
      }),
    }
  })
}

function readTls(read: SettingsReader): TlsFiles | undefined {
  const certificate = read.optionalText('SLIPWAY_TLS_CERT', { doc: 'certificate chain, a PEM file' })
  if (certificate === undefined) return undefined
  const key = read.text('SLIPWAY_TLS_KEY', { doc: 'private key of SLIPWAY_TLS_CERT, a PEM file' })
  const authorities = read.optionalText('SLIPWAY_TLS_CA', { doc: 'authorities of callers, a PEM file' })
  return { certificate, key, ...(authorities === undefined ? {} : { authorities }) }
}
