import type { Http2Server, IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { Server as GrpcServer, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js'
import { ROOT_CONTEXT } from '@opentelemetry/api'
import { type ActiveCall, ActiveCalls } from './active-calls.ts'
import { type CallRecord, isServersFault, recordServerCall } from './call-telemetry.ts'
import { Code } from './code.ts'
import { Connections } from './connections.ts'
import { ServerContext } from './context.ts'
import type { Exchange, Settled } from './exchange.ts'
import { Failure } from './failure.ts'
import { isReadable } from './framing.ts'
import { grpcJsExchange } from './grpc-js-exchange.ts'
import { Health } from './health.ts'
import { type Implementation, type ImplementedMethod, methodName, methodPath } from './implementation.ts'
import { LeanExchange } from './lean-exchange.ts'
import { defaultServerLimits, type ServerLimits } from './limits.ts'
import { reflection } from './reflection.ts'
import { boundResets, takeStreams } from './stream-takeover.ts'
import { formatTimeout, parseTimeout } from './timeout.ts'
import { isLoopback, type ServerTls } from './tls.ts'

/** How a server is made. */
export interface ServerOptions {
  /** Services may be spread over several: typed and raw methods of one service combine. */
  readonly implementations: readonly Implementation[]
  /** Where to listen; port 0 is any free one. */
  readonly listen: { readonly host: string; readonly port: number }
  /** Without it the server speaks plain text, which it does on loopback only. */
  readonly tls?: ServerTls | undefined
  /** Says that a service mesh encrypts: plain text is then allowed on any host. */
  readonly behindMesh?: boolean
  readonly limits?: Partial<ServerLimits>
  /** What carries hot methods; everything else is always on grpc-js. */
  readonly transport?: 'lean' | 'grpc-js'
  /** Hears of every failure that is the server's fault, with its cause. */
  readonly onError?: (failure: Failure, context: { method: string }) => void
}

/** A gRPC server. */
export interface RpcServer {
  /** Listens; resolves with where. */
  start(): Promise<{ host: string; port: number; address: string }>
  /** What grpc.health.v1 tells of this server; everything is SERVING unless set otherwise. */
  readonly health: Pick<Health, 'set' | 'forget'>
  /**
   * Goes away in order: health NOT_SERVING, no new calls, those in flight finish, idle streams end with UNAVAILABLE,
   * after `graceMs` everything does. Resolves when the port and all connections are closed.
   */
  drain(options?: { graceMs?: number }): Promise<void>
}

interface Route {
  readonly name: string
  readonly implemented: ImplementedMethod
  readonly streams: 'none' | 'requests' | 'answers'
}

const streamsOf = {
  unary: 'none',
  client_streaming: 'requests',
  server_streaming: 'answers',
  bidi_streaming: 'answers',
} as const
const same = (bytes: Buffer): Buffer => bytes

/** Makes a server; grpc.health.v1 and reflection (v1, v1alpha) are always there. Fails when a method is implemented twice. */
export function createServer(options: ServerOptions): RpcServer {
  if (options.tls === undefined && options.behindMesh !== true && !isLoopback(options.listen.host)) {
    const message = `plain text is for loopback: listening on ${options.listen.host} needs TLS, or a mesh that encrypts`
    throw new Failure(Code.FAILED_PRECONDITION, 'PLAIN_TEXT_REFUSED', message)
  }
  return new Server(options)
}

class Server implements RpcServer {
  readonly health: Health
  readonly #options: ServerOptions
  readonly #limits: ServerLimits
  readonly #grpc: GrpcServer
  readonly #routes = new Map<string, Route>()
  readonly #active = new ActiveCalls()
  readonly #connections = new Connections()
  /** The stream that is being passed on to grpc-js, which calls the handler before it returns. */
  #passedOn: ServerHttp2Stream | undefined
  #drained: Promise<void> | undefined

  constructor(options: ServerOptions) {
    this.#options = options
    this.#limits = { ...defaultServerLimits, ...options.limits }
    const limits = this.#limits
    this.#grpc = new GrpcServer({
      'grpc.max_receive_message_length': limits.maxRequestBytes,
      'grpc.max_send_message_length': limits.maxResponseBytes,
      'grpc.max_concurrent_streams': limits.maxConcurrentStreams,
      'grpc.keepalive_time_ms': limits.keepaliveMs,
      'grpc.keepalive_timeout_ms': limits.keepaliveTimeoutMs,
    })
    this.health = new Health(options.implementations.map(({ service }) => service.typeName))
    const own = [...options.implementations, this.health.implementation()]
    for (const { methods } of [...own, ...reflection(own.map(({ service }) => service))]) {
      for (const method of methods) this.#register(method)
    }
    boundResets(this.#grpc, { burst: limits.maxResetBurst, perSecond: limits.maxResetsPerSecond })
    takeStreams(
      this.#grpc,
      (stream, headers) => this.#take(stream, headers),
      (http2Server) => this.#prepare(http2Server),
    )
  }

  start(): Promise<{ host: string; port: number; address: string }> {
    const { host, port } = this.#options.listen
    const authority = (bound: number): string => (host.includes(':') ? `[${host}]:${bound}` : `${host}:${bound}`)
    return new Promise((resolve, reject) => {
      this.#grpc.bindAsync(authority(port), credentialsOf(this.#options.tls), (error, bound) => {
        if (error === null) resolve({ host, port: bound, address: authority(bound) })
        else reject(error)
      })
    })
  }

  drain({ graceMs = this.#limits.drainGraceMs }: { graceMs?: number } = {}): Promise<void> {
    this.#drained ??= this.#drain(graceMs)
    return this.#drained
  }

  async #drain(graceMs: number): Promise<void> {
    this.health.drain()
    const endMs = performance.now() + graceMs
    this.#connections.refuseNew()
    if (graceMs > 0) await this.#connections.announceEnd(graceMs)
    const closed = new Promise<void>((resolve) => this.#grpc.tryShutdown(() => resolve()))
    await this.#active.drain(Math.max(0, endMs - performance.now()), this.#limits.drainQuietMs)
    // What is left now has been answered; a peer that does not take its answer is not waited for.
    const lastMs = Math.max(LAST_BYTES_MS, endMs - performance.now())
    const cut = setTimeout(() => this.#connections.cut(), lastMs)
    // grpc-js does not hear the end of a connection that was going away when it was asked to shut down.
    const given = Promise.withResolvers<void>()
    const giveUp = setTimeout(given.resolve, lastMs + LAST_BYTES_MS)
    await Promise.race([closed, given.promise])
    clearTimeout(cut)
    clearTimeout(giveUp)
    this.#grpc.forceShutdown()
  }

  #register(implemented: ImplementedMethod): void {
    const { method } = implemented
    const route: Route = { name: methodName(method), implemented, streams: streamsOf[method.methodKind] }
    const handle = (stream: ServerDuplexStream<Buffer, Buffer>): void => {
      this.#serve(route, (settled) => grpcJsExchange(stream, this.#passedOn, settled))
    }
    const path = methodPath(method)
    if (!this.#grpc.register(path, handle, same, same, 'bidi')) throw new TypeError(`${path} is implemented twice`)
    this.#routes.set(path, route)
  }

  #prepare(http2Server: Http2Server): void {
    const { streamWindowBytes, connectionWindowBytes, maxMetadataBytes } = this.#limits
    http2Server.updateSettings({ initialWindowSize: streamWindowBytes, maxHeaderListSize: maxMetadataBytes })
    http2Server.on('session', (session) => session.setLocalWindowSize(connectionWindowBytes))
    this.#connections.watch(http2Server)
  }

  /** Sees every call first: gives unary ones a deadline, and takes the hot ones and those that grpc-js gets wrong. */
  #take(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): boolean {
    const route = this.#routes.get(headers[':path'] ?? '')
    if (route === undefined) return false
    if (!headers['content-type']?.startsWith('application/grpc')) return false
    const timeoutMs = this.#timeoutMs(route, headers)
    if (!this.#isLean(route, headers) && timeoutMs !== undefined) {
      // grpc-js reads the header again, and would take a very long timeout for a negative one.
      if (timeoutMs !== Number.POSITIVE_INFINITY) headers['grpc-timeout'] = formatTimeout(timeoutMs)
      this.#passedOn = stream
      return false
    }
    this.#serve(route, (settled) => new LeanExchange(stream, headers, timeoutMs, this.#limits, settled))
    return true
  }

  #isLean(route: Route, headers: IncomingHttpHeaders): boolean {
    // A stream on grpc-js hangs when a message that it cannot read comes after an answer.
    if (!isReadable(headers['grpc-encoding']?.toString())) return true
    return route.implemented.hot && this.#options.transport !== 'grpc-js'
  }

  #timeoutMs(route: Route, headers: IncomingHttpHeaders): number | undefined {
    const header = headers['grpc-timeout']
    if (header !== undefined) return parseTimeout(String(header))
    return route.streams === 'none' ? this.#limits.unaryTimeoutMs : Number.POSITIVE_INFINITY
  }

  #serve(route: Route, open: (settled: Settled) => Exchange): void {
    let record: CallRecord | undefined
    let call: ActiveCall | undefined
    const exchange = open((failure) => {
      if (call !== undefined) this.#active.delete(call)
      record?.end(failure)
      if (failure !== undefined && isServersFault(failure)) this.#options.onError?.(failure, { method: route.name })
    })
    call = this.#active.add(exchange, route.streams)
    record = recordServerCall(route.name, (name) => exchange.header(name))
    try {
      route.implemented.serve(exchange, new ServerContext(route.name, exchange, record?.context ?? ROOT_CONTEXT))
    } catch (error) {
      exchange.fail(Failure.from(error))
    }
  }
}

/** How long the last bytes of an ended call may take to leave. */
const LAST_BYTES_MS = 100

function credentialsOf(tls: ServerTls | undefined): ServerCredentials {
  if (tls === undefined) return ServerCredentials.createInsecure()
  const pair = { cert_chain: Buffer.from(tls.certificate), private_key: Buffer.from(tls.key) }
  const authorities = tls.clientAuthorities
  return ServerCredentials.createSsl(
    authorities === undefined ? null : Buffer.from(authorities),
    [pair],
    authorities !== undefined,
  )
}
