import { type Environment, readSettings, type SettingsReader } from '@slipway/config'

/** Settings of the registry. */
export interface RegistryConfig {
  /** Where it listens. */
  readonly listen: { readonly host: string; readonly port: number }
  /** Folder for the database, the files and, when no broker is named, the bus. */
  readonly dataDirectory: string
  /** Kafka brokers; empty: the bus is a file below the data folder. */
  readonly kafkaBrokers: readonly string[]
  /** The inference service that answers golden sets, `host:port`. */
  readonly inferenceAddress: string
  /** PEM files for TLS; undefined: plain text. */
  readonly tls:
    | { readonly certificate: string; readonly key: string; readonly authorities: string | undefined }
    | undefined
  /** Whether it may listen without TLS beyond loopback, because a mesh in front encrypts. */
  readonly insecureBehindMesh: boolean
  /** Largest file that may be uploaded. */
  readonly maxFileBytes: number
  /** Largest `model.onnx`. */
  readonly maxGraphBytes: number
  /** Largest golden set. */
  readonly maxGoldenSetBytes: number
  /** Gates that run at once. */
  readonly maxConcurrentGateRuns: number
  /** Rows of a golden set sent to inference in one call. */
  readonly gateRowsPerCall: number
  /** How long inference may take to load a version for the gate. */
  readonly gateLoadTimeoutMs: number
  /** How long inference may take for one call of the gate. */
  readonly gateInferTimeoutMs: number
  /** Longest silence on a watch. */
  readonly watchHeartbeatMs: number
  /** After how long an unfinished upload that nobody touches is dropped. */
  readonly uploadIdleMs: number
  /** How long calls in flight may take when the service stops. */
  readonly drainGraceMs: number
}

/** Reads the settings; throws one error that names every problem. */
export function loadConfig(env: Environment): RegistryConfig {
  return readSettings(env, (read) => ({
    listen: read.address('SLIPWAY_LISTEN', { doc: 'where to listen', default: '127.0.0.1:7401' }),
    dataDirectory: read.text('SLIPWAY_DATA_DIR', { doc: 'folder for everything that is kept', default: '.slipway' }),
    kafkaBrokers: read.list('SLIPWAY_KAFKA_BROKERS', { doc: 'Kafka brokers, separated by commas' }),
    inferenceAddress: read.text('SLIPWAY_INFERENCE_ADDRESS', {
      doc: 'the inference service',
      default: '127.0.0.1:7403',
    }),
    tls: readTls(read),
    insecureBehindMesh: read.boolean('SLIPWAY_INSECURE_BEHIND_MESH', { doc: 'a mesh encrypts', default: false }),
    maxFileBytes: read.bytes('SLIPWAY_REGISTRY_MAX_FILE', { doc: 'largest uploaded file', default: '8GiB' }),
    maxGraphBytes: read.bytes('SLIPWAY_REGISTRY_MAX_GRAPH', { doc: 'largest model.onnx', default: '1GiB' }),
    maxGoldenSetBytes: read.bytes('SLIPWAY_REGISTRY_MAX_GOLDEN_SET', { doc: 'largest golden set', default: '64MiB' }),
    maxConcurrentGateRuns: read.integer('SLIPWAY_REGISTRY_GATE_RUNS', { doc: 'gates at once', default: 2, min: 1 }),
    gateRowsPerCall: read.integer('SLIPWAY_REGISTRY_GATE_ROWS', { doc: 'rows a call', default: 256, min: 1 }),
    gateLoadTimeoutMs: read.durationMs('SLIPWAY_REGISTRY_GATE_LOAD_TIMEOUT', {
      doc: 'to load a version',
      default: '2m',
    }),
    gateInferTimeoutMs: read.durationMs('SLIPWAY_REGISTRY_GATE_INFER_TIMEOUT', { doc: 'for a call', default: '30s' }),
    watchHeartbeatMs: read.durationMs('SLIPWAY_REGISTRY_WATCH_HEARTBEAT', { doc: 'longest silence', default: '10s' }),
    uploadIdleMs: read.durationMs('SLIPWAY_REGISTRY_UPLOAD_IDLE', {
      doc: 'until an upload is dropped',
      default: '24h',
    }),
    drainGraceMs: read.durationMs('SLIPWAY_REGISTRY_DRAIN_GRACE', { doc: 'for calls in flight', default: '10s' }),
  }))
}

function readTls(read: SettingsReader): RegistryConfig['tls'] {
  const certificate = read.optionalText('SLIPWAY_TLS_CERT', { doc: 'certificate chain, a PEM file' })
  if (certificate === undefined) return undefined
  const key = read.text('SLIPWAY_TLS_KEY', { doc: 'private key of SLIPWAY_TLS_CERT, a PEM file' })
  const authorities = read.optionalText('SLIPWAY_TLS_CA', {
    doc: 'authorities that callers are held against, a PEM file',
  })
  return { certificate, key, authorities }
}
