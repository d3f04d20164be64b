import { type Environment, readSettings, type SettingsReader } from '@slipway/config'

/** Settings of the drift monitor. */
export interface DriftMonitorConfig {
  /** Where it listens. */
  readonly listen: { readonly host: string; readonly port: number }
  /** Folder for the database and, when no broker is named, the bus. */
  readonly dataDirectory: string
  /** Kafka brokers; empty: the bus is a file below the data folder. */
  readonly kafkaBrokers: readonly string[]
  /** The registry, `host:port`. */
  readonly registryAddress: string
  /** PEM files for TLS; undefined: plain text. */
  readonly tls:
    | { readonly certificate: string; readonly key: string; readonly authorities: string | undefined }
    | undefined
  /** Whether it may listen without TLS beyond loopback, because a mesh in front encrypts. */
  readonly insecureBehindMesh: boolean
  /** Name of its group on the bus: monitors with the same name share the work. */
  readonly group: string
  /** How long counts, predictions and labels are kept, by event time, in hours. */
  readonly retentionHours: number
  /** How long calls in flight may take when the service stops. */
  readonly drainGraceMs: number
}

/** Reads the settings; throws one error that names every problem. */
export function loadConfig(env: Environment): DriftMonitorConfig {
  return readSettings(env, (read) => ({
    listen: read.address('SLIPWAY_LISTEN', { doc: 'where to listen', default: '127.0.0.1:7404' }),
    dataDirectory: read.text('SLIPWAY_DATA_DIR', { doc: 'folder for everything that is kept', default: '.slipway' }),
    kafkaBrokers: read.list('SLIPWAY_KAFKA_BROKERS', { doc: 'Kafka brokers, separated by commas' }),
    registryAddress: read.text('SLIPWAY_REGISTRY_ADDRESS', { doc: 'the registry', default: '127.0.0.1:7401' }),
    tls: readTls(read),
    insecureBehindMesh: read.boolean('SLIPWAY_INSECURE_BEHIND_MESH', { doc: 'a mesh encrypts', default: false }),
    group: read.text('SLIPWAY_DRIFT_MONITOR_GROUP', { doc: 'consumer group', default: 'slipway-drift-monitor' }),
    retentionHours: Math.ceil(
      read.durationMs('SLIPWAY_DRIFT_MONITOR_RETENTION', {
        doc: 'how long counts and labels are kept',
        default: '45d',
      }) / 3_600_000,
    ),
    drainGraceMs: read.durationMs('SLIPWAY_DRIFT_MONITOR_DRAIN_GRACE', { doc: 'for calls in flight', default: '10s' }),
  }))
}

function readTls(read: SettingsReader): DriftMonitorConfig['tls'] {
  const certificate = read.optionalText('SLIPWAY_TLS_CERT', { doc: 'certificate chain, a PEM file' })
  if (certificate === undefined) return undefined
  const key = read.text('SLIPWAY_TLS_KEY', { doc: 'private key of SLIPWAY_TLS_CERT, a PEM file' })
  const authorities = read.optionalText('SLIPWAY_TLS_CA', {
    doc: 'authorities that callers are held against, a PEM file',
  })
  return { certificate, key, authorities }
}
