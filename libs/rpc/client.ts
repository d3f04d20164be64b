import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodBiDiStreaming,
  type DescMethodClientStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf'
import { MethodOptions_IdempotencyLevel } from '@bufbuild/protobuf/wkt'
import { type ChannelCredentials, credentials, Client as GrpcClient, Metadata } from '@grpc/grpc-js'
import { type CallOptions, type CallScope, callScope } from './call-scope.ts'
import { type CallRecord, recordClientCall } from './call-telemetry.ts'
import { Code } from './code.ts'
import { converse } from './conversation.ts'
import { Failure } from './failure.ts'
import { callForStream, callOnce, noAnswer, type OutgoingCall } from './grpc-js-call.ts'
import { methodName, methodPath } from './implementation.ts'
import { type ClientLimits, DEFAULT_TIMEOUT_MS, defaultClientLimits } from './limits.ts'
import { clientClosed, openRawChannel, type RawChannel } from './raw-client.ts'
import type { RawClientStream } from './raw-client-stream.ts'
import { callWithRetries, defaultRetryPolicy, RetryBudget, type RetryPolicy } from './retry.ts'
import type { ClientTls } from './tls.ts'

/** A call of a method, its shape derived from the method's kind. */
export type Call<M extends DescMethod> =
  M extends DescMethodUnary<infer I, infer O>
    ? (request: MessageInitShape<I>, options?: CallOptions) => Promise<MessageShape<O>>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageInitShape<I>, options?: CallOptions) => AsyncIterable<MessageShape<O>>
      : M extends DescMethodClientStreaming<infer I, infer O>
        ? (requests: AsyncIterable<MessageInitShape<I>>, options?: CallOptions) => Promise<MessageShape<O>>
        : M extends DescMethodBiDiStreaming<infer I, infer O>
          ? (requests: AsyncIterable<MessageInitShape<I>>, options?: CallOptions) => AsyncIterable<MessageShape<O>>
          : never

/** A client of a service: a function for each method, and `close`. Every call fails with a Failure. */
export type Client<S extends DescService> = { readonly [K in keyof S['method']]: Call<S['method'][K]> } & {
  /** Closes the connection; calls in flight finish, later ones fail. */
  close(): void
}

/** How a client is made. */
export interface ClientOptions {
  /** `host:port`. */
  readonly address: string
  /** Without it the client speaks plain text. */
  readonly tls?: ClientTls | undefined
  /** Deadline of a unary or client-streaming call that names none. */
  readonly timeoutMs?: number
  /** How unary calls are retried; what is not named is as in `defaultRetryPolicy`. */
  readonly retry?: Partial<RetryPolicy>
  readonly limits?: Partial<ClientLimits>
}

/**
 * Makes a client. Nothing connects before the first call; a lost connection is made again. Calls with one request are on
 * grpc-js; those with a stream of requests are on a raw channel, because grpc-js half-closes a call that it cancels, and
 * a server would take half an upload for a whole one.
 *
 * Inside a handler every call inherits the deadline, the cancellation and the trace of the call that is being answered.
 */
export function createClient<S extends DescService>(service: S, options: ClientOptions): Client<S> {
  const limits = { ...defaultClientLimits, ...options.limits }
  const { tls } = options
  const client = new GrpcClient(options.address, credentialsOf(tls), {
    'grpc.max_receive_message_length': limits.maxResponseBytes,
    'grpc.max_send_message_length': limits.maxRequestBytes,
    'grpc.keepalive_time_ms': limits.keepaliveMs,
    'grpc.keepalive_timeout_ms': limits.keepaliveTimeoutMs,
    'grpc-node.flow_control_window': limits.streamWindowBytes,
    'grpc.service_config_disable_resolution': 1,
    'grpc.initial_reconnect_backoff_ms': limits.minReconnectMs,
    'grpc.max_reconnect_backoff_ms': limits.maxReconnectMs,
    ...(tls?.serverName !== undefined && {
      'grpc.ssl_target_name_override': tls.serverName,
      'grpc.default_authority': tls.serverName,
    }),
  })
  const caller = new Caller(client, options)
  const calls: Record<string, unknown> = { close: () => caller.close() }
  for (const method of service.methods) calls[method.localName] = caller.callOf(method)
  return calls as Client<S>
}

type AnyCall = (request: unknown, options?: CallOptions) => Promise<object> | AsyncIterable<object>

class Caller {
  readonly #client: GrpcClient
  readonly #options: ClientOptions
  readonly #retry: RetryPolicy
  readonly #budget: RetryBudget
  readonly #channel: RawChannel
  #closed = false

  constructor(client: GrpcClient, options: ClientOptions) {
    this.#client = client
    this.#options = options
    this.#retry = { ...defaultRetryPolicy, ...options.retry }
    this.#budget = new RetryBudget(this.#retry)
    const { address, tls, limits = {} } = options
    this.#channel = openRawChannel({ address, tls, limits })
  }

  callOf(method: DescMethod): AnyCall {
    switch (method.methodKind) {
      case 'unary':
        return (request, options) => this.#unary(method, request as object, options)
      case 'server_streaming':
        return (request, options) => this.#answers(method, request as object, options)
      case 'client_streaming':
        return (requests, options) => this.#collect(method, requests as AsyncIterable<object>, options)
      case 'bidi_streaming':
        return (requests, options) => this.#converse(method, requests as AsyncIterable<object>, options)
    }
  }

  close(): void {
    this.#closed = true
    this.#client.close()
    this.#channel.close()
  }

  get #timeoutMs(): number {
    return this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS
  }

  async #unary(method: DescMethod, request: object, options: CallOptions = {}): Promise<object> {
    const bytes = encode(method.input, request)
    const { call, record } = this.#begin(method, callScope(options, this.#timeoutMs), options)
    try {
      const answer = await callWithRetries({
        method: methodName(method),
        idempotent: isIdempotent(method),
        policy: this.#retry,
        budget: this.#budget,
        scope: call.scope,
        attempt(previous) {
          if (previous > 0) call.metadata.set('grpc-previous-rpc-attempts', String(previous))
          return callOnce(call, bytes)
        },
      })
      const message = decode(method.output, answer)
      record?.end(undefined)
      return message
    } catch (error) {
      record?.end(Failure.from(error))
      throw error
    }
  }

  async *#answers(method: DescMethod, request: object, options: CallOptions = {}): AsyncGenerator<object> {
    const bytes = encode(method.input, request)
    const { call, record } = this.#begin(method, callScope(options, Number.POSITIVE_INFINITY), options)
    yield* decoded(method.output, callForStream(call, bytes), record)
  }

  async *#converse(
    method: DescMethod,
    requests: AsyncIterable<object>,
    options: CallOptions = {},
  ): AsyncGenerator<object> {
    const headers = { ...options.headers }
    const { trace } = callScope(options, Number.POSITIVE_INFINITY)
    const record = recordClientCall(methodName(method), trace, (name, value) => {
      headers[name] = value
    })
    const open = (): RawClientStream => this.#channel.openStream(method, { ...options, headers, inherit: true })
    const answers = converse(open, requests, (request) => encode(method.input, request))
    yield* decoded(method.output, answers, record)
  }

  async #collect(method: DescMethod, requests: AsyncIterable<object>, options: CallOptions = {}): Promise<object> {
    let found: object | undefined
    const timed = { timeoutMs: this.#timeoutMs, ...options }
    for await (const answer of this.#converse(method, requests, timed)) found ??= answer
    if (found === undefined) throw noAnswer()
    return found
  }

  #begin(
    method: DescMethod,
    scope: CallScope,
    options: CallOptions,
  ): { call: OutgoingCall; record: CallRecord | undefined } {
    if (this.#closed) throw clientClosed()
    const metadata = new Metadata()
    for (const [name, value] of Object.entries(options.headers ?? {})) metadata.set(name, value)
    const record = recordClientCall(methodName(method), scope.trace, (name, value) => metadata.set(name, value))
    return { call: { client: this.#client, path: methodPath(method), metadata, scope }, record }
  }
}

async function* decoded(
  output: DescMessage,
  answers: AsyncIterable<Buffer>,
  record: CallRecord | undefined,
): AsyncGenerator<object> {
  let failure: Failure | undefined
  try {
    for await (const answer of answers) yield decode(output, answer)
  } catch (error) {
    failure = Failure.from(error)
    throw error
  } finally {
    record?.end(failure)
  }
}

/** What the proto calls idempotent, and Get and List, which change nothing by their name (AIP-131, 132). */
function isIdempotent(method: DescMethod): boolean {
  return (
    method.idempotency !== MethodOptions_IdempotencyLevel.IDEMPOTENCY_UNKNOWN || /^(Get|List)[A-Z]/.test(method.name)
  )
}

function decode(schema: DescMessage, bytes: Uint8Array): object {
  try {
    return fromBinary(schema, bytes)
  } catch (cause) {
    throw new Failure(Code.INTERNAL, 'MALFORMED_MESSAGE', `the answer is not a ${schema.typeName}`, { cause })
  }
}

function encode(schema: DescMessage, message: object): Buffer {
  const bytes = toBinary(schema, create(schema, message as Record<string, unknown>))
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function credentialsOf(tls: ClientTls | undefined): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure()
  const pem = (text: string | Buffer | undefined): Buffer | null => (text === undefined ? null : Buffer.from(text))
  return credentials.createSsl(pem(tls.authorities), pem(tls.key), pem(tls.certificate))
}
