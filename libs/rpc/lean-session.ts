import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type OutgoingHttpHeaders,
} from 'node:http2'
import { Code } from './code.ts'
import { Failure } from './failure.ts'
import type { ClientLimits } from './limits.ts'
import type { ClientTls } from './tls.ts'

/** Where a session goes, and within what. */
export interface SessionOptions {
  /** `host:port`. */
  readonly address: string
  readonly tls?: ClientTls | undefined
  readonly limits: ClientLimits
}

/**
 * One HTTP/2 connection of a lean client.
 *
 * 1. It connects when it is made; requests may be made at once and leave when the connection is there.
 * 2. Once it is lost, or its server said that it is going away, it is not `usable` any more and never becomes so
 *    again: its owner makes another one. Calls that are on it go on as long as the connection lives.
 * 3. While calls are on it a connection that does not answer a ping within the limit is given up.
 * 4. It keeps the process alive only while calls are on it.
 */
export class LeanSession {
  readonly #http2: ClientHttp2Session
  readonly #limits: ClientLimits
  readonly #onLeaving: () => void
  #leaving = false
  #calls = 0
  #keepalive: NodeJS.Timeout | undefined

  /** `onLeaving` is told once when the session is not usable any more. */
  constructor(options: SessionOptions, onLeaving: () => void) {
    const { streamWindowBytes, connectionWindowBytes } = options.limits
    this.#limits = options.limits
    this.#onLeaving = onLeaving
    const settings = { initialWindowSize: streamWindowBytes, enablePush: false }
    const scheme = options.tls === undefined ? 'http' : 'https'
    this.#http2 = connect(`${scheme}://${options.address}`, { settings, ...tlsOptions(options.tls) })
    this.#http2.on('connect', () => {
      if (!this.#http2.destroyed) this.#http2.setLocalWindowSize(connectionWindowBytes)
    })
    this.#http2.on('error', () => this.#leave())
    this.#http2.on('goaway', () => this.#leave())
    this.#http2.on('close', () => {
      clearInterval(this.#keepalive)
      this.#leave()
    })
    this.#http2.unref()
  }

  /** Whether new calls may be put on it. */
  get usable(): boolean {
    return !this.#leaving && !this.#http2.closed && !this.#http2.destroyed
  }

  /** How many calls are on it. */
  get calls(): number {
    return this.#calls
  }

  /** Whether the connection is gone, with every call that was on it. */
  get gone(): boolean {
    return this.#http2.destroyed
  }

  /** Opens a stream; `signal` resets it. */
  request(headers: OutgoingHttpHeaders, signal?: AbortSignal): ClientHttp2Stream {
    const stream = this.#http2.request(headers, signal === undefined ? undefined : { signal })
    if (this.#calls++ === 0) this.#watch()
    stream.on('close', () => {
      if (--this.#calls === 0) this.#rest()
    })
    return stream
  }

  /** Closes the connection when its calls are over; `onLeaving` is not told. */
  close(): void {
    this.#leaving = true
    if (!this.#http2.destroyed) this.#http2.close()
  }

  #watch(): void {
    this.#http2.ref()
    this.#keepalive ??= setInterval(() => this.#ping(), this.#limits.keepaliveMs)
  }

  #rest(): void {
    clearInterval(this.#keepalive)
    this.#keepalive = undefined
    if (!this.#http2.destroyed) this.#http2.unref()
  }

  #ping(): void {
    const timeout = setTimeout(() => {
      this.#http2.destroy(new Error('the server does not answer'), constants.NGHTTP2_CANCEL)
    }, this.#limits.keepaliveTimeoutMs)
    const sent = !this.#http2.destroyed && this.#http2.ping(() => clearTimeout(timeout))
    if (!sent) clearTimeout(timeout)
  }

  #leave(): void {
    if (this.#leaving) return
    this.#leaving = true
    this.#onLeaving()
  }
}

/** UNAVAILABLE because there is no connection, or none any more. */
export function connectionLost(cause: Error | undefined): Failure {
  const message = cause === undefined ? 'the connection was closed' : `no connection: ${cause.message}`
  return new Failure(Code.UNAVAILABLE, 'CONNECTION_LOST', message, { cause })
}

function tlsOptions(tls: ClientTls | undefined): Record<string, unknown> {
  if (tls === undefined) return {}
  const { authorities, certificate, key, serverName } = tls
  return {
    ...(authorities !== undefined && { ca: authorities }),
    ...(certificate !== undefined && { cert: certificate }),
    ...(key !== undefined && { key }),
    ...(serverName !== undefined && { servername: serverName }),
  }
}
