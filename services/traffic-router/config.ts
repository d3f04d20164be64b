import { type Environment, readSettings, type SettingsReader } from '@slipway/config'
import { readServiceSettings, type ServiceSettings } from '@slipway/service'

/** Settings of the traffic router. */
export interface Config extends ServiceSettings {
  /** Address of the registry. */
  readonly registryAddress: string
  /** Address of the feature store. */
  readonly featureStoreAddress: string
  /** Address of inference. */
  readonly inferenceAddress: string
  /** Streams to inference. */
  readonly inferenceStreams: number
  /** Most requests that wait for inference. */
  readonly maxInFlight: number
  /** Most bytes of requests that wait for inference. */
  readonly maxInFlightBytes: number
  /** Most calls of the feature store that are under way at once. */
  readonly featureReads: number
  /** How long a request without a deadline may take. */
  readonly defaultTimeoutMs: number
  /** How long inference may take to load a version. */
  readonly loadTimeoutMs: number
  /** Whether a version needs a passed gate to get traffic. */
  readonly requireGate: boolean
  /** How long a logged prediction waits for its attributions. */
  readonly explainTimeoutMs: number
  /** Most explanations under way. */
  readonly explainMaxInFlight: number
  /** Most logged predictions that wait to be explained. */
  readonly explainMaxWaiting: number
  /** Most bytes of them. */
  readonly explainMaxWaitingBytes: number
  /** Most rows that the model answers to explain one. */
  readonly explainMaxEvaluations: number
  /** Most bytes of prediction logs on disk while the bus is away. */
  readonly spoolMaxBytes: number
  /** Most log records in memory. */
  readonly spoolMaxRecords: number
  /** Most bytes of acknowledged feedback on disk while the bus is away. */
  readonly feedbackMaxBytes: number
  /** Largest request. */
  readonly maxRequestBytes: number
}

/** Reads the settings. Throws ConfigError that names every problem. */
export function loadConfig(env: Environment): Config {
  return readSettings(env, (read) => {
    const target = (name: string, port: number, doc: string): string => {
      const address = read.address(`SLIPWAY_${name}_ADDRESS`, { doc, default: `127.0.0.1:${port}` })
      return `${address.host}:${address.port}`
    }
    return {
      ...readServiceSettings(read, { name: 'traffic-router', defaultPort: 7400 }),
      registryAddress: target('REGISTRY', 7401, 'Address of the registry'),
      featureStoreAddress: target('FEATURE_STORE', 7402, 'Address of the feature store'),
      inferenceAddress: target('INFERENCE', 7403, 'Address of inference'),
      ...readTraffic(read),
      ...readExplaining(read),
      spoolMaxBytes: read.bytes('SLIPWAY_TRAFFIC_ROUTER_SPOOL_MAX_BYTES', {
        doc: 'Most bytes of prediction logs on disk while the bus is away',
        default: '256MiB',
      }),
      spoolMaxRecords: read.integer('SLIPWAY_TRAFFIC_ROUTER_SPOOL_MAX_RECORDS', {
        doc: 'Most log records in memory',
        default: 20_000,
        min: 1,
        max: 10_000_000,
      }),
      feedbackMaxBytes: read.bytes('SLIPWAY_TRAFFIC_ROUTER_FEEDBACK_MAX_BYTES', {
        doc: 'Most bytes of acknowledged feedback on disk while the bus is away',
        default: '256MiB',
      }),
      maxRequestBytes: read.bytes('SLIPWAY_TRAFFIC_ROUTER_MAX_REQUEST_BYTES', {
        doc: 'Largest request',
        default: '64MiB',
      }),
      drainMs: read.durationMs('SLIPWAY_TRAFFIC_ROUTER_DRAIN', {
        doc: 'How long a stopping router waits for its last requests',
        default: '10s',
      }),
    }
  })
}

/** How requests go on to the other services. */
function readTraffic(
  read: SettingsReader,
): Pick<
  Config,
  | 'inferenceStreams'
  | 'maxInFlight'
  | 'maxInFlightBytes'
  | 'featureReads'
  | 'defaultTimeoutMs'
  | 'loadTimeoutMs'
  | 'requireGate'
> {
  return {
    inferenceStreams: read.integer('SLIPWAY_TRAFFIC_ROUTER_INFERENCE_STREAMS', {
      doc: 'Streams to inference',
      default: 2,
      min: 1,
      max: 64,
    }),
    maxInFlight: read.integer('SLIPWAY_TRAFFIC_ROUTER_MAX_IN_FLIGHT', {
      doc: 'Most requests that wait for inference',
      default: 4096,
      min: 1,
      max: 1_000_000,
    }),
    maxInFlightBytes: read.bytes('SLIPWAY_TRAFFIC_ROUTER_MAX_IN_FLIGHT_BYTES', {
      doc: 'Most bytes of requests that wait for inference',
      default: '256MiB',
    }),
    featureReads: read.integer('SLIPWAY_TRAFFIC_ROUTER_FEATURE_READS', {
      doc: 'Most calls of the feature store under way at once',
      default: 8,
      min: 1,
      max: 256,
    }),
    defaultTimeoutMs: read.durationMs('SLIPWAY_TRAFFIC_ROUTER_DEFAULT_TIMEOUT', {
      doc: 'How long a request without a deadline may take',
      default: '10s',
    }),
    loadTimeoutMs: read.durationMs('SLIPWAY_TRAFFIC_ROUTER_LOAD_TIMEOUT', {
      doc: 'How long inference may take to load a version',
      default: '60s',
    }),
    requireGate: read.boolean('SLIPWAY_TRAFFIC_ROUTER_REQUIRE_GATE', {
      doc: 'Whether a version needs a passed gate to get traffic',
      default: true,
    }),
  }
}

/** How logged predictions are explained. */
function readExplaining(read: SettingsReader) {
  return {
    explainTimeoutMs: read.durationMs('SLIPWAY_TRAFFIC_ROUTER_EXPLAIN_TIMEOUT', {
      doc: 'How long a logged prediction waits for its attributions before it is logged without',
      default: '10s',
    }),
    explainMaxInFlight: read.integer('SLIPWAY_TRAFFIC_ROUTER_EXPLAIN_MAX_IN_FLIGHT', {
      doc: 'Most explanations under way at once',
      default: 2,
      min: 1,
      max: 64,
    }),
    explainMaxWaiting: read.integer('SLIPWAY_TRAFFIC_ROUTER_EXPLAIN_MAX_WAITING', {
      doc: 'Most logged predictions that wait to be explained',
      default: 1000,
      min: 1,
      max: 100_000,
    }),
    explainMaxWaitingBytes: read.bytes('SLIPWAY_TRAFFIC_ROUTER_EXPLAIN_MAX_WAITING_BYTES', {
      doc: 'Most bytes of logged predictions that wait to be explained',
      default: '64MiB',
    }),
    explainMaxEvaluations: read.integer('SLIPWAY_TRAFFIC_ROUTER_EXPLAIN_MAX_EVALUATIONS', {
      doc: 'Most rows that the model answers to explain one',
      default: 16_384,
      min: 4,
      max: 4_194_304,
    }),
  }
}
