import { type Environment, readSettings } from '@slipway/config'
import { readServiceSettings, type ServiceSettings } from '@slipway/service'

/** Settings of the feature store. */
export interface FeatureStoreConfig extends ServiceSettings {
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
}

/** Reads the settings; throws one error that names every problem. */
export function loadConfig(env: Environment): FeatureStoreConfig {
  return readSettings(env, (read) => ({
    ...readServiceSettings(read, { name: 'feature-store', defaultPort: 7402 }),
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
  }))
}
