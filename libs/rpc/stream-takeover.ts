import type { Http2Server, IncomingHttpHeaders, ServerHttp2Stream, ServerOptions } from 'node:http2'
import type { Server } from '@grpc/grpc-js'

/** Sees a stream before grpc-js does; true when it took it. */
export type TakeStream = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean

interface Insides {
  /** What each HTTP/2 server is made with. */
  commonServerOptions: ServerOptions & {
    /** How many streams in a row may be refused before the connection is closed; Node.js documents it, its types do not. */
    maxSessionRejectedStreams?: number
  }
  _setupHandlers(http2Server: Http2Server, interceptors: unknown): void
}

/**
 * Lets `take` see every HTTP/2 stream of a grpc-js server first, and `prepare` every HTTP/2 server before it listens.
 *
 * This file is the one place that reaches inside grpc-js: here it wraps `_setupHandlers`, which grpc-js calls once for each
 * HTTP/2 server and which registers exactly one `stream` listener. When an update changes any of that, the first
 * server to start throws, and `stream-takeover.test.ts` fails.
 */
export function takeStreams(server: Server, take: TakeStream, prepare: (http2Server: Http2Server) => void): void {
  const insides = server as unknown as Insides
  const original = insides._setupHandlers
  if (typeof original !== 'function') throw new TypeError('grpc-js has no _setupHandlers any more')
  insides._setupHandlers = (http2Server, interceptors) => {
    if (http2Server.listenerCount('stream') !== 0) throw new TypeError('grpc-js listens for streams too early')
    original.call(server, http2Server, interceptors)
    const [listener, ...others] = http2Server.listeners('stream')
    if (listener === undefined || others.length > 0) throw new TypeError('grpc-js does not listen for streams once')
    http2Server.removeAllListeners('stream')
    http2Server.on('stream', (stream, headers, ...rest) => {
      if (!take(stream, headers)) listener.call(http2Server, stream, headers, ...rest)
    })
    prepare(http2Server)
  }
}

/** How many streams of one connection may come to nothing before it is closed: within a moment, and a second for longer. */
export interface ResetBounds {
  readonly burst: number
  readonly perSecond: number
}

/** Bounds resets on the HTTP/2 servers that a grpc-js server will make; grpc-js hands no setting of its own through. */
export function boundResets(server: Server, { burst, perSecond }: ResetBounds): void {
  const { commonServerOptions: options } = server as unknown as Insides
  if (typeof options?.maxSessionMemory !== 'number') throw new TypeError('grpc-js has no commonServerOptions any more')
  options.streamResetBurst = burst
  options.streamResetRate = perSecond
  // A stream that its caller reset counts as open until the event loop comes round: calls that were given up while the server
  // was busy are refused in a row, which is no reason either to close a connection.
  options.maxSessionRejectedStreams = burst
}
