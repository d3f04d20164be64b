import { join } from 'node:path'
import type { SettingsReader, SocketAddress } from '@slipway/config'
import type { TlsFiles } from '@slipway/rpc'

/** What tells the services apart before they read a setting of their own. */
export interface ServiceOptions {
  /** The service's name: its folder below the data folder, and the middle of the names of its own variables. */
  readonly name: string
  /** The port on loopback where it listens when nothing else is said. */
  readonly defaultPort: number
}

/** The settings that every service has. */
export interface ServiceSettings {
  /** Where it listens. */
  readonly listen: SocketAddress
  /** Folder of everything that it keeps; no other service opens it. */
  readonly dataDirectory: string
  /** File of the embedded bus, which all services share. */
  readonly eventsPath: string
  /** Kafka brokers, `host:port`; empty: the embedded bus. */
  readonly kafkaBrokers: readonly string[]
  /** PEM files for TLS; undefined: plain text. */
  readonly tls: TlsFiles | undefined
  /** Whether it may listen without TLS beyond loopback, because a mesh in front encrypts. */
  readonly insecureBehindMesh: boolean
  /** How long calls in flight may take when the service stops. */
  readonly drainGraceMs: number
}

/** Reads what every service has; a service adds its own settings to it, inside the same `readSettings`. */
export function readServiceSettings(read: SettingsReader, { name, defaultPort }: ServiceOptions): ServiceSettings {
  const dataDirectory = read.text('SLIPWAY_DATA_DIR', {
    doc: 'folder for everything that is kept',
    default: '.slipway',
  })
  const ownPrefix = `SLIPWAY_${name.replaceAll('-', '_').toUpperCase()}`
  return {
    listen: read.address('SLIPWAY_LISTEN', { doc: 'where to listen', default: `127.0.0.1:${defaultPort}` }),
    dataDirectory: join(dataDirectory, name),
    eventsPath: join(dataDirectory, 'events.db'),
    kafkaBrokers: read.addressList('SLIPWAY_KAFKA_BROKERS', { doc: 'Kafka brokers, separated by commas' }),
    tls: readTls(read),
    insecureBehindMesh: read.boolean('SLIPWAY_INSECURE_BEHIND_MESH', { doc: 'a mesh encrypts', default: false }),
    drainGraceMs: read.durationMs(`${ownPrefix}_DRAIN_GRACE`, { doc: 'for calls in flight', default: '10s' }),
  }
}

function readTls(read: SettingsReader): TlsFiles | undefined {
  const certificate = read.optionalFile('SLIPWAY_TLS_CERT', { doc: 'certificate chain, a PEM file' })
  if (certificate === undefined) return undefined
  return {
    certificate,
    key: read.file('SLIPWAY_TLS_KEY', { doc: 'private key of SLIPWAY_TLS_CERT, a PEM file' }),
    authorities: read.optionalFile('SLIPWAY_TLS_CA', { doc: 'authorities of callers and servers, a PEM file' }),
  }
}
