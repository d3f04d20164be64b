import { Server as GrpcServer, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js'
import { ROOT_CONTEXT } from '@opentelemetry/api'
import { Code } from './code.ts'
import { ServerContext } from './context.ts'
import type { Exchange, Settled } from './exchange.ts'
import type { Failure } from './failure.ts'
import { grpcJsExchange } from './grpc-js-exchange.ts'
import { Health } from './health.ts'
import { type Implementation, type ImplementedMethod, methodName, methodPath } from './implementation.ts'
import { defaultServerLimits, type ServerLimits } from './limits.ts'

/** How a server is made. */
export interface ServerOptions {
  readonly implementations: readonly Implementation[]
  readonly listen: { readonly host: string; readonly port: number }
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
  readonly health: { set(service: string, serving: boolean): void }
  /** Stops taking calls, lets those in flight finish, ends what is left after `graceMs`. */
  drain(options?: { graceMs?: number }): Promise<void>
}

const same = (bytes: Buffer): Buffer => bytes

/** Makes a server; health and reflection are always there. */
export function createServer(options: ServerOptions): RpcServer {
  const limits = { ...defaultServerLimits, ...options.limits }
  const names = [...new Set(options.implementations.map(({ service }) => service.typeName))]
  const health = new Health(names)
  const server = new GrpcServer({
    'grpc.max_receive_message_length': limits.maxRequestBytes,
    'grpc.max_send_message_length': limits.maxResponseBytes,
    'grpc.max_concurrent_streams': limits.maxConcurrentStreams,
    'grpc.keepalive_time_ms': limits.keepaliveMs,
    'grpc.keepalive_timeout_ms': limits.keepaliveTimeoutMs,
  })
  for (const { methods } of [...options.implementations, health.implementation()]) {
    for (const method of methods) register(server, method, options)
  }
  return {
    health,
    start: () => listen(server, options.listen),
    drain: async ({ graceMs = limits.drainGraceMs } = {}) => {
      health.drain()
      const timer = setTimeout(() => server.forceShutdown(), graceMs)
      await new Promise<void>((resolve) => server.tryShutdown(() => resolve()))
      clearTimeout(timer)
    },
  }
}

function register(server: GrpcServer, implemented: ImplementedMethod, options: ServerOptions): void {
  const path = methodPath(implemented.method)
  const name = methodName(implemented.method)
  const settled: Settled = (failure) => {
    if (failure !== undefined && isServersFault(failure)) options.onError?.(failure, { method: name })
  }
  const handle = (stream: ServerDuplexStream<Buffer, Buffer>): void => {
    const exchange: Exchange = grpcJsExchange(stream, settled)
    implemented.serve(exchange, new ServerContext(name, exchange, exchange.deadlineMs, ROOT_CONTEXT))
  }
  if (!server.register(path, handle, same, same, 'bidi')) throw new TypeError(`${name} is implemented twice`)
}

const isServersFault = ({ code }: Failure): boolean =>
  code === Code.INTERNAL || code === Code.UNKNOWN || code === Code.DATA_LOSS

function listen(
  server: GrpcServer,
  { host, port }: { host: string; port: number },
): Promise<{ host: string; port: number; address: string }> {
  const authority = (bound: number): string => (host.includes(':') ? `[${host}]:${bound}` : `${host}:${bound}`)
  return new Promise((resolve, reject) => {
    server.bindAsync(authority(port), ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) resolve({ host, port: bound, address: authority(bound) })
      else reject(error)
    })
  })
}
