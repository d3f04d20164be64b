import { availableParallelism } from 'node:os'
import { ConfigError, type Environment, readSettings, type SettingsReader } from '@slipway/config'
import { isLoopback } from '@slipway/rpc'
import { readServiceSettings, type ServiceSettings } from '@slipway/service'
import { type AsyncPredictionSettings, readAsyncPredictionSettings } from './async-predictions/settings.ts'
import { type BatchJobSettings, readBatchJobSettings } from './batch-jobs/settings.ts'
import { type BatchingSettings, readBatchingSettings } from './batching-settings.ts'
import { type ExecutorSettings, readExecutorSettings } from './executors/settings.ts'
import { type ExplainSettings, readExplainSettings } from './explain/settings.ts'
import { type HttpSettings, readHttpSettings } from './http/settings.ts'
import { readIdentity, type ServerIdentity } from './model-metadata.ts'
import { type ModelSourceSettings, readModelSourceSettings } from './model-sources/settings.ts'
import { type ResidencySettings, readResidencySettings } from './residency-settings.ts'
import { type ResponseCacheSettings, readResponseCacheSettings } from './response-cache/settings.ts'
import { MAX_LABELLED_VERSIONS } from './version-labels.ts'

const VERSION = '0.1.0'

/** Settings of the inference service. */
export interface InferenceConfig
  extends ServiceSettings,
    BatchingSettings,
    ExecutorSettings,
    ResidencySettings,
    ModelSourceSettings,
    ResponseCacheSettings,
    AsyncPredictionSettings,
    BatchJobSettings,
    ExplainSettings,
    HttpSettings {
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
  /** Bytes of one request. */
  readonly maxRequestBytes: number
  /** Versions that are measured under names of their own; the others are `other`. */
  readonly maxLabelledVersions: number
  /** Deaths of an executor within ten minutes after which its version is quarantined. */
  readonly maxExecutorDeaths: number
}

/** Reads the settings; throws a ConfigError that names every one that is wrong. */
export function loadConfig(env: Environment): InferenceConfig {
  const config = readSettings(env, (read) => ({
    ...placeSettings(read),
    ...executionSettings(read),
    ...boundSettings(read),
    ...readBatchingSettings(read),
    ...readResidencySettings(read),
    ...readModelSourceSettings(read),
    ...readExecutorSettings(read),
    ...readResponseCacheSettings(read),
    ...readAsyncPredictionSettings(read),
    ...readBatchJobSettings(read),
    ...readExplainSettings(read),
  }))
  refusePlainText(config)
  return config
}

/** Throws a ConfigError when it would listen without TLS where others can hear it. */
function refusePlainText({ listen, httpListen, tls, insecureBehindMesh }: InferenceConfig): void {
  if (tls !== undefined || insecureBehindMesh) return
  const places = [
    { name: 'SLIPWAY_LISTEN', host: listen.host },
    ...(httpListen ? [{ name: 'SLIPWAY_INFERENCE_HTTP_LISTEN', host: httpListen.host }] : []),
  ]
  const open = places.filter(({ host }) => !isLoopback(host))
  const doc = 'or set SLIPWAY_INSECURE_BEHIND_MESH=true where a mesh encrypts'
  const problems = open.map(({ name, host }) => {
    const problem = `${host} is beyond loopback: it needs SLIPWAY_TLS_CERT and SLIPWAY_TLS_KEY`
    return { name, problem, doc }
  })
  if (problems.length > 0) throw new ConfigError(problems)
}

function placeSettings(read: SettingsReader) {
  const service = readServiceSettings(read, { name: 'inference', defaultPort: 7403 })
  return {
    ...service,
    ...readHttpSettings(read, service.listen),
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
  }
}

function boundSettings(read: SettingsReader) {
  return {
    maxLabelledVersions: read.integer('SLIPWAY_INFERENCE_MAX_LABELLED_VERSIONS', {
      doc: 'versions measured under names of their own',
      default: MAX_LABELLED_VERSIONS,
      min: 1,
      max: 10_000,
    }),
    maxRequestBytes: read.bytes('SLIPWAY_INFERENCE_MAX_REQUEST_BYTES', {
      doc: 'bytes of one request',
      default: '64MiB',
    }),
  }
}
