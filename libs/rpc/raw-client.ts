import type { OutgoingHttpHeaders } from 'node:http2'
import type { DescMethod } from '@bufbuild/protobuf'
import { type CallOptions, type CallScope, callScope } from './call-scope.ts'
import { recordClientCall } from './call-telemetry.ts'
import { Code } from './code.ts'
import { outsideOfCalls } from './context.ts'
import { Failure } from './failure.ts'
import { methodName, methodPath } from './implementation.ts'
import { LeanCall, REFUSED } from './lean-call.ts'
import { LeanSession } from './lean-session.ts'
import { type ClientLimits, DEFAULT_TIMEOUT_MS, defaultClientLimits } from './limits.ts'
import { ClientStream, type RawClientStream } from './raw-client-stream.ts'
import { formatTimeout } from './timeout.ts'
import type { ClientTls } from './tls.ts'

/** How a raw channel is made. */
export interface RawChannelOptions {
  /** `host:port`. */
  readonly address: string
  readonly tls?: ClientTls | undefined
  /** How many connections calls are spread over. */
  readonly connections?: number
  /** Deadline of a unary call that names none. */
  readonly timeoutMs?: number
  readonly limits?: Partial<ClientLimits>
}

/**
 * A lean client in raw bytes: a few connections and what goes over them.
 *
 * 1. Nothing connects before the first call. A lost or leaving connection is replaced by the next call that needs it.
 * 2. A call is not sent twice, unless it was refused unseen because its connection is leaving: then on another one.
 * 3. A unary call inherits deadline, cancellation and trace of the call that is being answered, as with `createClient`.
 *    A stream does not, unless it is told to: it may serve many calls, and outlive the one in which it was opened.
 */
export interface RawChannel {
  /** A unary call. Fails with a Failure. */
  callUnary(method: DescMethod, request: Uint8Array, options?: CallOptions): Promise<Buffer>
  /** Opens a stream; what goes wrong is told to `onClose`. */
  openStream(method: DescMethod, options?: StreamOptions): RawClientStream
  /** Closes the connections; calls in flight finish, later ones fail. */
  close(): void
}

/** What a stream may say. */
export interface StreamOptions extends CallOptions {
  /** Whether deadline and cancellation of the call that is being answered bind the stream as well. */
  readonly inherit?: boolean
}

/** Makes a channel. */
export function openRawChannel(options: RawChannelOptions): RawChannel {
  return new Channel(options)
}

/** Opens a bidirectional stream on a connection of its own, which closes with it. */
export function openRawStream(
  method: DescMethod,
  options: Omit<RawChannelOptions, 'connections' | 'timeoutMs'> & CallOptions,
): RawClientStream {
  const { address, tls, limits = {} } = options
  const channel = new Channel({ address, tls, limits })
  return channel.openStream(method, options, () => channel.close())
}

/** A unary call on a channel; the same as its `callUnary`. */
export function callRawUnary(
  channel: RawChannel,
  method: DescMethod,
  request: Uint8Array,
  options?: CallOptions,
): Promise<Buffer> {
  return channel.callUnary(method, request, options)
}

/** CANCELLED because the caller closed its client. */
export function clientClosed(): Failure {
  return new Failure(Code.CANCELLED, 'CLIENT_CLOSED', 'the client was closed')
}

const nothing = (): void => {}

class Channel implements RawChannel {
  readonly #options: RawChannelOptions
  readonly #limits: ClientLimits
  readonly #sessions: (LeanSession | undefined)[]
  readonly #streams = new Map<LeanSession, Set<ClientStream>>()
  #next = 0
  #closed = false

  constructor(options: RawChannelOptions) {
    this.#options = options
    this.#limits = { ...defaultClientLimits, ...options.limits }
    this.#sessions = new Array(Math.max(1, options.connections ?? 1)).fill(undefined)
  }

  async callUnary(method: DescMethod, request: Uint8Array, options: CallOptions = {}): Promise<Buffer> {
    const scope = callScope(options, this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS)
    const headers = headersOf(method, options, this.#options)
    const record = recordClientCall(methodName(method), scope.trace, (name, value) => {
      headers[name] = value
    })
    try {
      const answer = await this.#unrefused(headers, request, scope)
      record?.end(undefined)
      return answer
    } catch (error) {
      record?.end(Failure.from(error))
      throw error
    }
  }

  openStream(method: DescMethod, options: StreamOptions = {}, closed: () => void = nothing): RawClientStream {
    const { inherit = false } = options
    const scope = callScope(options, Number.POSITIVE_INFINITY, inherit)
    return outsideOfCalls(() => this.#openStream(method, options, scope, closed))
  }

  #openStream(method: DescMethod, options: CallOptions, scope: CallScope, closed: () => void): ClientStream {
    const headers = headersOf(method, options, this.#options)
    if (scope.deadlineMs !== Number.POSITIVE_INFINITY) headers['grpc-timeout'] = remaining(scope)
    const session = this.#session()
    const streams = this.#streams.get(session) ?? new Set<ClientStream>()
    this.#streams.set(session, streams)
    const stream: ClientStream = new ClientStream(scope, (listener) => {
      const over = (failure: Failure | undefined): void => {
        streams.delete(stream)
        listener.closed(failure)
        closed()
      }
      return new LeanCall('stream', session, headers, this.#limits, scope.deadlineMs, { ...listener, closed: over })
    })
    streams.add(stream)
    return stream
  }

  close(): void {
    this.#closed = true
    for (const session of this.#sessions) session?.close()
    this.#sessions.fill(undefined)
  }

  /** Every connection may turn out to be leaving; the one that then is made new is not. */
  async #unrefused(headers: OutgoingHttpHeaders, request: Uint8Array, scope: CallScope): Promise<Buffer> {
    for (let left = this.#sessions.length; ; left--) {
      try {
        return await this.#attempt(headers, request, scope)
      } catch (error) {
        if (left === 0 || !(error instanceof Failure) || error.reason !== REFUSED) throw error
      }
    }
  }

  #attempt(headers: OutgoingHttpHeaders, request: Uint8Array, scope: CallScope): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const ended = scope.ended()
      if (ended !== undefined) {
        reject(ended)
        return
      }
      let answer: Buffer | undefined
      const session = this.#session()
      const timed = { ...headers, 'grpc-timeout': remaining(scope) }
      const call = new LeanCall('unary', session, timed, this.#limits, scope.deadlineMs, {
        message(bytes) {
          answer ??= bytes
        },
        closed(failure) {
          unlink()
          if (failure !== undefined) reject(failure)
          else if (answer !== undefined) resolve(answer)
          else reject(new Failure(Code.INTERNAL, 'NO_ANSWER', 'the server answered OK without a message'))
        },
      })
      const unlink = scope.onEnd((failure) => call.cancel(failure))
      call.endWith(request)
    })
  }

  /** The next connection in turn, made anew when the one there is not usable. */
  #session(): LeanSession {
    if (this.#closed) throw clientClosed()
    const at = this.#next++ % this.#sessions.length
    const present = this.#sessions[at]
    if (present?.usable === true) return present
    const session = outsideOfCalls(() => this.#connect())
    this.#sessions[at] = session
    return session
  }

  #connect(): LeanSession {
    const session: LeanSession = new LeanSession({ ...this.#options, limits: this.#limits }, () => {
      for (const stream of this.#streams.get(session) ?? []) stream.leave()
      this.#streams.delete(session)
    })
    return session
  }
}

function headersOf(method: DescMethod, options: CallOptions, channel: RawChannelOptions): OutgoingHttpHeaders {
  return {
    ':method': 'POST',
    ':path': methodPath(method),
    ':scheme': channel.tls === undefined ? 'http' : 'https',
    'content-type': 'application/grpc+proto',
    te: 'trailers',
    'user-agent': 'slipway',
    ...options.headers,
  }
}

const remaining = ({ deadlineMs }: CallScope): string => formatTimeout(deadlineMs - Date.now())
