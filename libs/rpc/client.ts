import {
  create,
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
import {
  type ClientDuplexStream,
  credentials,
  Client as GrpcClient,
  Metadata,
  type ServiceError,
  type StatusObject,
} from '@grpc/grpc-js'
import { Code } from './code.ts'
import { currentCall } from './context.ts'
import { Failure } from './failure.ts'
import { methodPath } from './implementation.ts'
import { type ClientLimits, defaultClientLimits } from './limits.ts'
import { decodeStatus, STATUS_DETAILS_KEY } from './status.ts'

/** What one call may say. */
export interface CallOptions {
  readonly signal?: AbortSignal
  readonly timeoutMs?: number
  readonly headers?: Readonly<Record<string, string>>
}

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

/** A client of a service: a function for each method, and `close`. */
export type Client<S extends DescService> = { readonly [K in keyof S['method']]: Call<S['method'][K]> } & {
  /** Closes the connection; calls in flight finish. */
  close(): void
}

/** How a client is made. */
export interface ClientOptions {
  /** `host:port`. */
  readonly address: string
  /** Deadline of a unary call that names none. */
  readonly timeoutMs?: number
  readonly limits?: Partial<ClientLimits>
}

/** Deadline of a unary or client-streaming call when neither the call nor the client names one. */
export const DEFAULT_TIMEOUT_MS = 30_000

/** Makes a client. Nothing connects before the first call. */
export function createClient<S extends DescService>(service: S, options: ClientOptions): Client<S> {
  const limits = { ...defaultClientLimits, ...options.limits }
  const client = new GrpcClient(options.address, credentials.createInsecure(), {
    'grpc.max_receive_message_length': limits.maxResponseBytes,
    'grpc.max_send_message_length': limits.maxRequestBytes,
    'grpc.service_config_disable_resolution': 1,
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 5000,
  })
  const calls: Record<string, unknown> = { close: () => client.close() }
  for (const method of service.methods) calls[method.localName] = callOf(client, method, options)
  return calls as Client<S>
}

type AnyCall = (request: unknown, options?: CallOptions) => unknown

function callOf(client: GrpcClient, method: DescMethod, options: ClientOptions): AnyCall {
  const streamsRequests = method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming'
  const streamsAnswers = method.methodKind === 'server_streaming' || method.methodKind === 'bidi_streaming'
  const timeoutMs = streamsAnswers ? Number.POSITIVE_INFINITY : (options.timeoutMs ?? DEFAULT_TIMEOUT_MS)
  return (request, callOptions = {}) => {
    const requests = streamsRequests ? (request as AsyncIterable<object>) : [request as object]
    const answers = openCall(client, method, requests, { timeoutMs, ...callOptions })
    return streamsAnswers ? answers : only(answers)
  }
}

async function only(answers: AsyncIterable<object>): Promise<object> {
  let found: object | undefined
  for await (const answer of answers) found ??= answer
  if (found === undefined) throw new Failure(Code.INTERNAL, 'NO_ANSWER', 'the server answered OK without a message')
  return found
}

async function* openCall(
  client: GrpcClient,
  method: DescMethod,
  requests: AsyncIterable<object> | Iterable<object>,
  options: CallOptions & { timeoutMs: number },
): AsyncGenerator<object> {
  const parent = currentCall()
  const signals = [options.signal, parent?.signal].filter((signal) => signal !== undefined)
  for (const signal of signals) if (signal.aborted) throw cancelled(signal)
  const deadline = Math.min(Date.now() + options.timeoutMs, parent?.deadlineMs ?? Number.POSITIVE_INFINITY)
  const metadata = new Metadata()
  for (const [name, value] of Object.entries(options.headers ?? {})) metadata.set(name, value)
  const call: ClientDuplexStream<object, object> = client.makeBidiStreamRequest(
    methodPath(method),
    (message: object) => Buffer.from(toBinary(method.input, create(method.input, message as Record<string, unknown>))),
    (bytes: Buffer) => fromBinary(method.output, bytes),
    metadata,
    { deadline },
  )
  const cancel = (): void => call.cancel()
  for (const signal of signals) signal.addEventListener('abort', cancel, { once: true })
  let sending: unknown
  try {
    void send(call, requests).catch((error: unknown) => {
      sending = error
      call.cancel()
    })
    for await (const answer of call) yield answer as object
  } catch (error) {
    if (sending !== undefined) throw sending
    throw failureOf(error as ServiceError)
  } finally {
    for (const signal of signals) signal.removeEventListener('abort', cancel)
    call.cancel()
  }
}

async function send(
  call: ClientDuplexStream<object, object>,
  requests: AsyncIterable<object> | Iterable<object>,
): Promise<void> {
  for await (const request of requests) {
    if (call.destroyed) return
    if (!call.write(request)) await new Promise<void>((resolve) => call.once('drain', resolve))
  }
  call.end()
}

const cancelled = (signal: AbortSignal): Failure =>
  signal.reason instanceof Failure
    ? signal.reason
    : new Failure(Code.CANCELLED, 'CANCELLED', 'the call was cancelled', { cause: signal.reason })

function failureOf(error: ServiceError | StatusObject): Failure {
  const details = error.metadata?.get(STATUS_DETAILS_KEY)[0]
  return decodeStatus({
    code: error.code,
    message: error.details,
    details: typeof details === 'string' ? undefined : details,
    cause: error,
  })
}
