import { type Environment, readSettings } from '@slipway/config'
import { readServiceSettings, type ServiceSettings } from '@slipway/service'

/** Settings of the registry. */
export interface RegistryConfig extends ServiceSettings {
  /** The inference service that answers golden sets, `host:port`. */
  readonly inferenceAddress: string
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
}

/** Reads the settings; throws one error that names every problem. */
export function loadConfig(env: Environment): RegistryConfig {
  return readSettings(env, (read) => ({
    ...readServiceSettings(read, { name: 'registry', defaultPort: 7401 }),
    inferenceAddress: read.text('SLIPWAY_INFERENCE_ADDRESS', {
      doc: 'the inference service',
      default: '127.0.0.1:7403',
    }),
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
  }))
}
