/**
 * Requests to inference over a few streams with many requests in flight, told apart by id.
 *
 * 1. Every request is settled exactly once: by its answer, by its error, by its deadline or by the loss of its stream.
 * 2. A request whose stream broke before it was answered is sent once more, on another stream: inference is idempotent.
 *    When that fails too it is UNAVAILABLE.
 * 3. At most `maxInFlight` requests of at most `maxInFlightBytes` together wait for an answer; one more is
 *    RESOURCE_EXHAUSTED.
 * 4. A server that has no streams is called by unary calls until `UNARY_MODE_MS` have passed.
 * 5. A server that is away costs a caller nothing but an answer: between attempts to connect, requests fail at once.
 */
import { Code, Failure } from '@slipway/rpc'
import { type ScannedStreamResponse, scanStreamResponse } from './oip-message.ts'

/** What the pool needs of a raw client stream. */
export interface InferenceStream {
  write(message: Uint8Array): void
  onMessage(listener: (message: Buffer) => void): void
  onClose(listener: (failure: Failure | undefined) => void): void
  onLeaving(listener: () => void): void
  end(): void
}

/** What the pool needs of the world. */
export interface InferencePoolOptions {
  /** Opens a stream; a server that is away closes it with a failure. */
  openStream(): InferenceStream
  /** One call without a stream. */
  callUnary(request: Buffer, deadlineMs: number): Promise<Buffer>
  /** The failure that a stream's error stands for. */
  failureOf(answer: ScannedStreamResponse): Failure
  /** Called when inference may have been restarted: a stream was lost, or it does not know a version. */
  onTrouble(): void
  /** Streams to keep open. */
  readonly streams: number
  /** Most requests that wait for an answer. */
  readonly maxInFlight: number
  /** Most bytes of requests that wait for an answer. */
  readonly maxInFlightBytes: number
}

/** Takes a request's answer, or its failure. */
export type Settle = (failure: Failure | undefined, response: Buffer) => void

/** How long unary calls are used after a server said that it has no streams. */
export const UNARY_MODE_MS = 60_000
const DEADLINE_TICK_MS = 5
const FIRST_BACKOFF_MS = 50
const MAX_BACKOFF_MS = 2_000
const MAX_ATTEMPTS = 2
const EMPTY = Buffer.alloc(0)

interface PendingRequest {
  readonly id: string
  readonly message: Buffer
  readonly deadlineMs: number
  readonly settle: Settle
  attempts: number
}

interface OpenStream {
  readonly raw: InferenceStream
  readonly pending: Map<string, PendingRequest>
  answered: boolean
}

/** Sends requests to one inference server. */
export class InferencePool {
  readonly #options: InferencePoolOptions
  readonly #streams: (OpenStream | undefined)[]
  /** Streams whose server is going away; they answer what they have. */
  readonly #leaving = new Set<OpenStream>()
  readonly #unary = new Map<string, PendingRequest>()
  #inFlight = 0
  #inFlightBytes = 0
  #lastId = 0
  #ticking: NodeJS.Timeout | undefined
  #backoffMs = 0
  #backoffUntilMs = 0
  #unaryUntilMs = 0
  #closed = false

  constructor(options: InferencePoolOptions) {
    this.#options = options
    this.#streams = new Array<OpenStream | undefined>(options.streams)
  }

  /** Requests that wait for an answer. */
  get inFlight(): number {
    return this.#inFlight
  }

  /** An id for the next request; the request must carry it as its OIP id. */
  nextId(): string {
    this.#lastId = (this.#lastId + 1) % Number.MAX_SAFE_INTEGER
    return this.#lastId.toString(36)
  }

  /** Sends a ModelInferRequest that carries `id`; `settle` is called once, never before this returns. */
  send(id: string, message: Buffer, deadlineMs: number, settle: Settle): void {
    const request: PendingRequest = { id, message, deadlineMs, settle, attempts: 0 }
    const { maxInFlight, maxInFlightBytes } = this.#options
    const isFull = this.#inFlight >= maxInFlight || this.#inFlightBytes + message.length > maxInFlightBytes
    if (this.#closed || isFull) {
      const failure = this.#closed ? unavailable('the router is stopping') : this.#full()
      queueMicrotask(() => settle(failure, EMPTY))
      return
    }
    this.#inFlight++
    this.#inFlightBytes += message.length
    if (deadlineMs !== Number.POSITIVE_INFINITY) this.#tick()
    this.#attempt(request)
  }

  /** Ends all streams; requests that still wait are UNAVAILABLE. */
  close(): void {
    this.#closed = true
    clearInterval(this.#ticking)
    for (const stream of this.#open()) {
      stream.raw.end()
      for (const request of stream.pending.values()) this.#fail(request, unavailable('the router is stopping'))
      stream.pending.clear()
    }
  }

  #attempt(request: PendingRequest): void {
    request.attempts++
    const now = Date.now()
    if (now < this.#unaryUntilMs) {
      this.#callUnary(request)
      return
    }
    const stream = this.#freest(now)
    if (stream === undefined) {
      queueMicrotask(() => this.#fail(request, unavailable('inference is away')))
      return
    }
    stream.pending.set(request.id, request)
    stream.raw.write(request.message)
  }

  /** The stream with the fewest requests; opens one where there is none, unless it is too soon after a failure. */
  #freest(nowMs: number): OpenStream | undefined {
    let best: OpenStream | undefined
    for (let slot = 0; slot < this.#streams.length; slot++) {
      const stream = this.#streams[slot] ?? (nowMs >= this.#backoffUntilMs ? this.#connect(slot) : undefined)
      if (stream !== undefined && (best === undefined || stream.pending.size < best.pending.size)) best = stream
    }
    return best
  }

  #connect(slot: number): OpenStream {
    const stream: OpenStream = { raw: this.#options.openStream(), pending: new Map(), answered: false }
    this.#streams[slot] = stream
    stream.raw.onMessage((message) => this.#answered(stream, message))
    stream.raw.onClose((failure) => this.#lost(slot, stream, failure))
    stream.raw.onLeaving(() => {
      if (this.#streams[slot] !== stream) return
      this.#streams[slot] = undefined
      this.#leaving.add(stream)
      stream.raw.end()
    })
    return stream
  }

  #open(): OpenStream[] {
    return [...this.#streams.filter((stream) => stream !== undefined), ...this.#leaving]
  }

  #answered(stream: OpenStream, message: Buffer): void {
    let answer: ScannedStreamResponse
    try {
      answer = scanStreamResponse(message)
    } catch {
      stream.raw.end()
      return
    }
    if (!stream.answered) this.#reached(stream)
    const request = stream.pending.get(answer.id)
    if (request === undefined) return
    stream.pending.delete(answer.id)
    if (answer.errorMessage === '') this.#settle(request, undefined, answer.response)
    else this.#settle(request, this.#refused(this.#options.failureOf(answer)), EMPTY)
  }

  /** A version that inference does not know was not loaded again after a restart: the caller may try again. */
  #refused(failure: Failure): Failure {
    if (failure.code !== Code.NOT_FOUND) return failure
    this.#options.onTrouble()
    const message = `inference does not hold the version yet: ${failure.message}`
    return new Failure(Code.UNAVAILABLE, 'VERSION_NOT_LOADED', message, { retryAfterMs: 200, cause: failure })
  }

  #reached(stream: OpenStream): void {
    stream.answered = true
    this.#backoffMs = 0
    this.#backoffUntilMs = 0
  }

  #lost(slot: number, stream: OpenStream, failure: Failure | undefined): void {
    if (this.#streams[slot] === stream) this.#streams[slot] = undefined
    this.#leaving.delete(stream)
    const now = Date.now()
    if (failure?.code === Code.UNIMPLEMENTED) this.#unaryUntilMs = now + UNARY_MODE_MS
    else if (!stream.answered) this.#backOff(now)
    this.#options.onTrouble()
    const waiting = [...stream.pending.values()]
    stream.pending.clear()
    for (const request of waiting) {
      if (this.#closed || request.attempts >= MAX_ATTEMPTS) this.#fail(request, lostFailure(failure))
      else this.#attempt(request)
    }
  }

  /** After a stream that never answered: the server is away, so the next attempt waits. */
  #backOff(nowMs: number): void {
    if (nowMs < this.#backoffUntilMs) return
    this.#backoffMs = Math.min(MAX_BACKOFF_MS, Math.max(FIRST_BACKOFF_MS, this.#backoffMs * 2))
    this.#backoffUntilMs = nowMs + this.#backoffMs
  }

  #callUnary(request: PendingRequest): void {
    this.#unary.set(request.id, request)
    const settle = (failure: Failure | undefined, response: Buffer): void => {
      if (this.#unary.delete(request.id)) this.#settle(request, failure, response)
    }
    this.#options.callUnary(request.message, request.deadlineMs).then(
      (response) => settle(undefined, response),
      (error: unknown) => settle(this.#refused(Failure.from(error)), EMPTY),
    )
  }

  /** Looks for expired requests every few milliseconds, as long as there are any that can expire. */
  #tick(): void {
    this.#ticking ??= setInterval(() => {
      const now = Date.now()
      let waiting = this.#expire(this.#unary, now)
      for (const stream of this.#open()) waiting += this.#expire(stream.pending, now)
      if (waiting > 0) return
      clearInterval(this.#ticking)
      this.#ticking = undefined
    }, DEADLINE_TICK_MS).unref()
  }

  #expire(pending: Map<string, PendingRequest>, nowMs: number): number {
    for (const request of pending.values()) {
      if (request.deadlineMs > nowMs) continue
      pending.delete(request.id)
      this.#fail(request, new Failure(Code.DEADLINE_EXCEEDED, 'DEADLINE_EXCEEDED', 'inference did not answer in time'))
    }
    return pending.size
  }

  #fail(request: PendingRequest, failure: Failure): void {
    this.#settle(request, failure, EMPTY)
  }

  #settle(request: PendingRequest, failure: Failure | undefined, response: Buffer): void {
    this.#inFlight--
    this.#inFlightBytes -= request.message.length
    request.settle(failure, response)
  }

  #full(): Failure {
    const message = `${this.#inFlight} requests of ${this.#inFlightBytes} bytes wait for inference already`
    return new Failure(Code.RESOURCE_EXHAUSTED, 'TOO_MANY_IN_FLIGHT', message, { retryAfterMs: 50 })
  }
}

function unavailable(message: string): Failure {
  return new Failure(Code.UNAVAILABLE, 'INFERENCE_UNAVAILABLE', message, { retryAfterMs: 100 })
}

function lostFailure(failure: Failure | undefined): Failure {
  return new Failure(Code.UNAVAILABLE, 'INFERENCE_UNAVAILABLE', 'inference was lost before it answered', {
    retryAfterMs: 100,
    ...(failure === undefined ? {} : { cause: failure }),
  })
}
