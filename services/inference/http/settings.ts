import type { SettingsReader, SocketAddress } from '@slipway/config'

/** The port over HTTP is so far above the one over gRPC. */
const PORTS_ABOVE = 2
const MAX_PORT = 65_535
const OFF = 'off'

/** Settings of the protocol over HTTP. */
export interface HttpSettings {
  /** Where HTTP is listened for; undefined: nowhere. */
  readonly httpListen: SocketAddress | undefined
  /** Largest JSON of a request, and tensor bytes written as JSON. */
  readonly httpMaxJsonBytes: number
  /** Time for a request to arrive in. */
  readonly httpRequestTimeoutMs: number
}

/** Reads them; without a word it listens on the host of gRPC, two ports above. */
export function readHttpSettings(read: SettingsReader, { host, port }: SocketAddress): HttpSettings {
  const above = port === 0 ? 0 : port + PORTS_ABOVE
  const fallback = above > MAX_PORT ? OFF : `${host.includes(':') ? `[${host}]` : host}:${above}`
  return {
    httpListen: readListen(read, fallback),
    httpMaxJsonBytes: read.bytes('SLIPWAY_INFERENCE_HTTP_MAX_JSON_BYTES', {
      doc: 'JSON of one request or answer over HTTP',
      default: '16MiB',
      min: '1KiB',
      max: '128MiB',
    }),
    httpRequestTimeoutMs: read.durationMs('SLIPWAY_INFERENCE_HTTP_REQUEST_TIMEOUT', {
      doc: 'for an HTTP request to arrive',
      default: '1m',
      min: '1s',
    }),
  }
}

function readListen(read: SettingsReader, fallback: string): SocketAddress | undefined {
  const name = 'SLIPWAY_INFERENCE_HTTP_LISTEN'
  const doc = 'where to listen for HTTP, or off'
  const isOff = read.text(name, { doc, default: fallback }).toLowerCase() === OFF
  return isOff ? undefined : read.address(name, { doc, default: fallback })
}
