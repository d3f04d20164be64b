import type { DescMethod } from '@bufbuild/protobuf'
import type { ServerContext } from './context.ts'
import type { Exchange, ExchangeListener } from './exchange.ts'
import { Failure } from './failure.ts'
import type { Implementation } from './implementation.ts'
import { readOne } from './typed-call.ts'

/** One unary call in raw bytes. */
export interface RawUnaryCall {
  /** When the caller stops waiting, in epoch milliseconds; Infinity when it did not say. */
  readonly deadlineMs: number
  /** True when the call is over before it was answered: reset, connection lost, deadline passed. */
  readonly cancelled: boolean
  /** Told once, if that happens. */
  onCancel(listener: () => void): void
  /** A request header, by its lower-case name. */
  header(name: string): string | undefined
  /** Sends the answer and OK. */
  answer(message: Uint8Array): void
  /** Sends a failure; anything that is not one becomes an opaque INTERNAL. */
  fail(error: unknown): void
}

/** One bidirectional stream in raw bytes. */
export interface RawStream {
  /** When the caller stops waiting, in epoch milliseconds; Infinity when it did not say. */
  readonly deadlineMs: number
  /** Hears each request; set in the turn in which the stream was handed over. */
  onMessage(listener: (message: Buffer) => void): void
  /** The caller sends no more; answers may still be written. */
  onEnd(listener: () => void): void
  /** The stream is over before this side ended it. */
  onCancel(listener: () => void): void
  /** A request header, by its lower-case name. */
  header(name: string): string | undefined
  /** Sends a message; all that are written in one turn of the event loop leave together. */
  write(message: Uint8Array): void
  /** Sends OK. */
  end(): void
  /** Sends a failure; anything that is not one becomes an opaque INTERNAL. */
  fail(error: unknown): void
  /** Stops reading, so that the caller is held back. */
  pause(): void
  /** Reads on. */
  resume(): void
  /** True while more waits for the caller than should: stop writing until `onDrain`. */
  readonly writableNeedsDrain: boolean
  /** Told each time what was written is on its way again. */
  onDrain(listener: () => void): void
}

/**
 * A hot unary method in raw bytes: no decoding, no validation. On the lean path unless the server says otherwise, with
 * the same promises either way. A handler that throws fails its call.
 */
export function implementRawUnary(
  method: DescMethod,
  handle: (request: Buffer, call: RawUnaryCall) => void,
): Implementation {
  if (method.methodKind !== 'unary') throw new TypeError(`${method.name} is not unary`)
  const serve = (exchange: Exchange, context: ServerContext): void => {
    const call = new ExchangeUnaryCall(exchange)
    const listener = readOne(exchange, (request) => context.run(() => handle(request, call)))
    exchange.listen({
      message: listener.message,
      end: listener.end,
      cancel(failure) {
        context.abort(failure)
        call.cancel()
      },
    })
  }
  return { service: method.parent, methods: [{ method, hot: true, serve }] }
}

/** A hot bidirectional method in raw bytes, as `implementRawUnary`. */
export function implementRawStream(method: DescMethod, handle: (stream: RawStream) => void): Implementation {
  if (method.methodKind !== 'bidi_streaming') throw new TypeError(`${method.name} is not bidirectional`)
  const serve = (exchange: Exchange, context: ServerContext): void => {
    const stream = new ExchangeStream(exchange, context)
    exchange.listen(stream.listener)
    stream.guard(() => handle(stream))
  }
  return { service: method.parent, methods: [{ method, hot: true, serve }] }
}

class ExchangeUnaryCall implements RawUnaryCall {
  readonly #exchange: Exchange
  #onCancel: (() => void) | undefined

  constructor(exchange: Exchange) {
    this.#exchange = exchange
  }

  get deadlineMs(): number {
    return this.#exchange.deadlineMs
  }

  get cancelled(): boolean {
    return this.#exchange.cancelled
  }

  onCancel(listener: () => void): void {
    this.#onCancel = listener
  }

  header(name: string): string | undefined {
    return this.#exchange.header(name)
  }

  answer(message: Uint8Array): void {
    this.#exchange.answer(message)
  }

  fail(error: unknown): void {
    this.#exchange.fail(Failure.from(error))
  }

  cancel(): void {
    this.#onCancel?.()
  }
}

const nothing = (): void => {}

class ExchangeStream implements RawStream {
  readonly #exchange: Exchange
  readonly #context: ServerContext
  #onMessage: (message: Buffer) => void = nothing
  #onEnd: () => void = nothing
  #onCancel: () => void = nothing
  #onDrain: () => void = nothing
  /** Whether what runs now runs in the context of the call already: entering it for each small message costs as much as reading it. */
  #isEntered = false
  /** What the exchange is listened to with. */
  readonly listener: ExchangeListener = {
    together: (hear) => this.#context.run(() => this.#enter(hear)),
    message: (bytes) => this.#hear(bytes),
    end: () => this.guard(this.#onEnd),
    drain: () => this.guard(this.#onDrain),
    cancel: (failure) => {
      this.#context.abort(failure)
      this.#onCancel()
    },
  }

  constructor(exchange: Exchange, context: ServerContext) {
    this.#exchange = exchange
    this.#context = context
  }

  get deadlineMs(): number {
    return this.#exchange.deadlineMs
  }

  get writableNeedsDrain(): boolean {
    return this.#exchange.needsDrain
  }

  onMessage(listener: (message: Buffer) => void): void {
    this.#onMessage = listener
  }

  onEnd(listener: () => void): void {
    this.#onEnd = listener
  }

  onCancel(listener: () => void): void {
    this.#onCancel = listener
  }

  onDrain(listener: () => void): void {
    this.#onDrain = listener
  }

  header(name: string): string | undefined {
    return this.#exchange.header(name)
  }

  write(message: Uint8Array): void {
    this.#exchange.write(message)
  }

  end(): void {
    this.#exchange.finish()
  }

  fail(error: unknown): void {
    this.#exchange.fail(Failure.from(error))
  }

  pause(): void {
    this.#exchange.pause()
  }

  resume(): void {
    this.#exchange.resume()
  }

  #enter(hear: () => void): void {
    this.#isEntered = true
    try {
      hear()
    } finally {
      this.#isEntered = false
    }
  }

  #hear(bytes: Buffer): void {
    try {
      if (this.#isEntered) this.#onMessage(bytes)
      else this.#context.run(() => this.#onMessage(bytes))
    } catch (error) {
      this.fail(error)
    }
  }

  /** Runs a part of the handler; what it throws fails the call. */
  guard(part: () => void): void {
    try {
      this.#context.run(part)
    } catch (error) {
      this.fail(error)
    }
  }
}
