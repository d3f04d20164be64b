import { availableParallelism } from 'node:os'
import { type Environment, readSettings, type SettingsReader } from '@slipway/config'
import { readServiceSettings, type ServiceSettings } from '@slipway/service'
import { readIdentity, type ServerIdentity } from './model-metadata.ts'
import { type ResponseCacheSettings, readResponseCacheSettings } from './response-cache/settings.ts'

const VERSION = '0.1.0'

/** Settings of the inference service. */
export interface InferenceConfig extends ServiceSettings, ResponseCacheSettings {
  /** The registry, `host:port`. */
  readonly registryAddress: string
  /** What `ServerMetadata` says. */
  readonly identity: ServerIdentity
  /** The alias whose version answers when a caller names none. */
  readonly defaultAlias: string
  /** Threads that models may keep busy at once. */
  readonly threads: number
  /** Threads that one run may use. */
  readonly intraOpThreads: number
  /** Executors of each version. */
  readonly executorsPerVersion: number
  /** Rows of one batch. */
  readonly maxBatchRows: number
  /** Bytes of one batch's requests. */
  readonly maxBatchBytes: number
  /** Rows that may wait for one version. */
  readonly maxQueueRows: number
  /** Longest predicted wait at which requests are still taken. */
  readonly maxQueueWaitMs: number
  /** Bytes of one request. */
  readonly maxRequestBytes: number
  /** Bytes of model files kept on disk. */
  readonly maxCacheBytes: number
  /** Bytes of model files loaded at once, before versions without an alias are let go. */
  readonly maxLoadedBytes: number
  /** A version without an alias is let go when it had no caller for so long. */
  readonly idleMs: number
  /** Deaths of an executor within ten minutes after which its version is quarantined. */
  readonly maxExecutorDeaths: number
}

/** Reads the settings; throws a ConfigError that names every one that is wrong. */
export function loadConfig(env: Environment): InferenceConfig {
  return readSettings(env, (read) => ({
    ...placeSettings(read),
    ...executionSettings(read),
    ...boundSettings(read),
    ...readResponseCacheSettings(read),
  }))
}

function placeSettings(read: SettingsReader) {
  return {
    ...readServiceSettings(read, { name: 'inference', defaultPort: 7403 }),
    registryAddress: read.text('SLIPWAY_REGISTRY_ADDRESS', {
      doc: 'the registry, host:port',
      default: '127.0.0.1:7401',
    }),
    identity: readIdentity(read, VERSION),
    defaultAlias: read.text('SLIPWAY_INFERENCE_DEFAULT_ALIAS', {
      doc: 'the alias that answers when a caller names no version',
      default: 'champion',
      pattern: /^[a-z][a-z0-9-]{0,62}$/,
    }),
  }
}

function executionSettings(read: SettingsReader) {
  const threads = read.integer('SLIPWAY_INFERENCE_THREADS', {
    doc: 'threads that models may keep busy at once',
    default: availableParallelism(),
    min: 1,
    max: 1024,
  })
  return {
    threads,
    intraOpThreads: read.integer('SLIPWAY_INFERENCE_INTRA_OP_THREADS', {
      doc: 'threads that one run may use, at most SLIPWAY_INFERENCE_THREADS',
      default: 1,
      min: 1,
      max: threads,
    }),
    executorsPerVersion: read.integer('SLIPWAY_INFERENCE_EXECUTORS', {
      doc: 'executors of each version',
      default: Math.max(1, Math.min(4, threads - 1)),
      min: 1,
      max: 64,
    }),
    maxExecutorDeaths: read.integer('SLIPWAY_INFERENCE_MAX_EXECUTOR_DEATHS', {
      doc: 'deaths of an executor within ten minutes before it is quarantined',
      default: 5,
      min: 1,
      max: 1000,
    }),
    idleMs: read.durationMs('SLIPWAY_INFERENCE_IDLE', {
      doc: 'idle time after which an unaliased version goes',
      default: '1h',
    }),
  }
}

function boundSettings(read: SettingsReader) {
  return {
    maxBatchRows: read.integer('SLIPWAY_INFERENCE_MAX_BATCH_ROWS', {
      doc: 'rows of one batch',
      default: 256,
      min: 1,
      max: 65_536,
    }),
    maxBatchBytes: read.bytes('SLIPWAY_INFERENCE_MAX_BATCH_BYTES', { doc: 'bytes of one batch', default: '16MiB' }),
    maxQueueRows: read.integer('SLIPWAY_INFERENCE_MAX_QUEUE_ROWS', {
      doc: 'rows that may wait for one version',
      default: 65_536,
      min: 1,
      max: 10_000_000,
    }),
    maxQueueWaitMs: read.durationMs('SLIPWAY_INFERENCE_MAX_QUEUE_WAIT', {
      doc: 'longest predicted wait',
      default: '10s',
    }),
    maxRequestBytes: read.bytes('SLIPWAY_INFERENCE_MAX_REQUEST_BYTES', {
      doc: 'bytes of one request',
      default: '64MiB',
    }),
    maxCacheBytes: read.bytes('SLIPWAY_INFERENCE_MAX_CACHE_BYTES', {
      doc: 'bytes of model files on disk',
      default: '10GiB',
    }),
    maxLoadedBytes: read.bytes('SLIPWAY_INFERENCE_MAX_LOADED_BYTES', {
      doc: 'bytes of model files loaded',
      default: '4GiB',
    }),
  }
}
