/**
 * Predictions in the Open Inference Protocol over one stream with many in flight, for callers to whom a call each costs
 * too much. Router and inference server both answer it.
 *
 * 1. Every request is settled exactly once: by its answer, by its own failure, by its deadline, by its signal, or by
 *    the loss of the stream, which is UNAVAILABLE.
 * 2. The first request opens the stream. When the server goes away in order, what is in flight is still answered, and
 *    the next request opens another.
 * 3. At most `maxInFlight` requests wait for an answer; one more is RESOURCE_EXHAUSTED.
 * 4. Nothing is sent twice: whether to repeat an UNAVAILABLE is the caller's to decide.
 */
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import {
  GRPCInferenceService,
  type ModelInferRequest,
  ModelInferRequestSchema,
  type ModelInferResponse,
  ModelStreamInferResponseSchema,
} from '@slipway/proto/inference/grpc_service'
import { type ClientTls, Code, Failure, openRawChannel, type RawClientStream } from '@slipway/rpc'

/** How to reach the server. */
export interface InferenceStreamOptions {
  /** `host:port` of the router or of an inference server. */
  readonly address: string
  readonly tls?: ClientTls | undefined
  /** Most requests that wait for an answer. Default 1024. */
  readonly maxInFlight?: number
}

/** How long one request may take, and who may stop it. */
export interface InferOptions {
  /** Sent along, so that the server gives up as well. Default 30 s. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

/** Predicts over a stream. */
export interface InferenceStream {
  /** Answers one request; its id comes back as it was. Fails with a Failure. */
  infer(request: MessageInitShape<typeof ModelInferRequestSchema>, options?: InferOptions): Promise<ModelInferResponse>
  /** Requests that wait for an answer. */
  readonly inFlight: number
  /** Ends the stream; requests that wait are UNAVAILABLE. */
  close(): void
}

/** Makes a stream; nothing connects before the first request. */
export function openInferenceStream(options: InferenceStreamOptions): InferenceStream {
  return new Multiplexer(options)
}

const defaultTimeoutMs = 30_000

interface Waiting {
  readonly callerId: string
  readonly stream: RawClientStream
  settle(outcome: ModelInferResponse | Failure): void
}

class Multiplexer implements InferenceStream {
  readonly #options: InferenceStreamOptions
  readonly #channel: ReturnType<typeof openRawChannel>
  readonly #waiting = new Map<string, Waiting>()
  #stream: RawClientStream | undefined
  #lastId = 0

  constructor(options: InferenceStreamOptions) {
    this.#options = options
    this.#channel = openRawChannel({ address: options.address, tls: options.tls })
  }

  get inFlight(): number {
    return this.#waiting.size
  }

  infer(
    init: MessageInitShape<typeof ModelInferRequestSchema>,
    options: InferOptions = {},
  ): Promise<ModelInferResponse> {
    const { timeoutMs = defaultTimeoutMs, signal } = options
    const most = this.#options.maxInFlight ?? 1024
    if (signal?.aborted) return Promise.reject(cancelled(signal))
    if (this.#waiting.size >= most) {
      return Promise.reject(new Failure(Code.RESOURCE_EXHAUSTED, 'TOO_MANY_IN_FLIGHT', `${most} requests wait already`))
    }
    const stream = this.#open()
    const request = create(ModelInferRequestSchema, init)
    const callerId = request.id
    request.id = String(++this.#lastId)
    limitTime(request, timeoutMs)
    return new Promise((resolve, reject) => {
      const abort = () => this.#settle(request.id, cancelled(signal))
      const timer = setTimeout(() => this.#settle(request.id, tooLate(timeoutMs)), timeoutMs)
      signal?.addEventListener('abort', abort, { once: true })
      const settle = (outcome: ModelInferResponse | Failure) => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', abort)
        if (outcome instanceof Failure) reject(outcome)
        else resolve(outcome)
      }
      this.#waiting.set(request.id, { callerId, stream, settle })
      stream.write(toBinary(ModelInferRequestSchema, request))
    })
  }

  close(): void {
    this.#stream?.end()
    this.#stream = undefined
    for (const id of [...this.#waiting.keys()]) this.#settle(id, lost('the stream was closed'))
    this.#channel.close()
  }

  #open(): RawClientStream {
    if (this.#stream !== undefined) return this.#stream
    const stream = this.#channel.openStream(GRPCInferenceService.method.modelStreamInfer)
    this.#stream = stream
    const leave = () => {
      if (this.#stream === stream) this.#stream = undefined
    }
    stream.onMessage((message) => this.#answered(message))
    stream.onLeaving(() => {
      leave()
      stream.end()
    })
    stream.onClose((failure) => {
      leave()
      const why =
        failure === undefined || failure.code === Code.UNAVAILABLE ? lost('the stream ended', failure) : failure
      for (const [id, waiting] of this.#waiting) if (waiting.stream === stream) this.#settle(id, why)
    })
    return stream
  }

  #answered(message: Buffer): void {
    const { errorMessage, inferResponse } = fromBinary(ModelStreamInferResponseSchema, message)
    if (inferResponse === undefined) return
    const failed = errorMessage === '' ? undefined : failureOf(errorMessage, inferResponse)
    this.#settle(inferResponse.id, failed ?? inferResponse)
  }

  /** An id that waits no more was settled by its deadline or its signal. */
  #settle(id: string, outcome: ModelInferResponse | Failure): void {
    const waiting = this.#waiting.get(id)
    if (waiting === undefined) return
    this.#waiting.delete(id)
    if (!(outcome instanceof Failure)) outcome.id = waiting.callerId
    waiting.settle(outcome)
  }
}

/** The server reads a request's own deadline, in microseconds, from the parameter `timeout`. */
function limitTime(request: ModelInferRequest, timeoutMs: number): void {
  const micros = BigInt(Math.max(1, Math.round(timeoutMs * 1000)))
  const parameters = create(ModelInferRequestSchema, {
    parameters: { timeout: { parameterChoice: { case: 'int64Param', value: micros } } },
  }).parameters
  request.parameters = { ...parameters, ...request.parameters }
}

/** A stream goes on after a failed request, so code and reason travel as parameters of the answer. */
function failureOf(message: string, { parameters }: ModelInferResponse): Failure {
  const parameter = (name: string) => parameters[name]?.parameterChoice.value
  const code = Object.values(Code).find((each) => each === Number(parameter('error_code'))) ?? Code.UNKNOWN
  const retryAfterMs = Number(parameter('retry_after_ms') ?? Number.NaN)
  const reason = String(parameter('error_reason') ?? 'UNKNOWN')
  return new Failure(code, reason, message, Number.isNaN(retryAfterMs) ? {} : { retryAfterMs })
}

function cancelled(signal: AbortSignal | undefined): Failure {
  return new Failure(Code.CANCELLED, 'CANCELLED', 'the request was cancelled', { cause: signal?.reason })
}

function tooLate(timeoutMs: number): Failure {
  return new Failure(Code.DEADLINE_EXCEEDED, 'DEADLINE_EXCEEDED', `no answer within ${timeoutMs} ms`)
}

function lost(message: string, cause?: Failure): Failure {
  return new Failure(Code.UNAVAILABLE, 'STREAM_LOST', message, { cause })
}
