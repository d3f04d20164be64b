import { AsyncLocalStorage } from 'node:async_hooks'
import { type Context, ROOT_CONTEXT, context as traceContext } from '@opentelemetry/api'
import type { Exchange, Trailers } from './exchange.ts'
import type { Failure } from './failure.ts'

/** What a handler knows of its call besides the request. */
export interface CallContext {
  /** Full name of the method, such as `slipway.testing.v1.EchoService/Echo`. */
  readonly method: string
  /** Aborted when the caller cancels, is gone, or its deadline passes; the reason is a Failure. */
  readonly signal: AbortSignal
  /** When the caller stops waiting, in epoch milliseconds; Infinity when it did not say. */
  readonly deadlineMs: number
  /** Milliseconds until the deadline, never below zero; Infinity without a deadline. */
  remainingMs(): number
  /** A request header, by its lower-case name. */
  header(name: string): string | undefined
  /** Address of the caller. */
  readonly peer: string
  /** Sends a metadata entry with the status: a lower-case name and printable ASCII, base64 for names in `-bin`. */
  setTrailer(name: string, value: string): void
}

const TRAILER_NAME = /^[0-9a-z_.-]{1,128}$/
const TRAILER_VALUE = /^[\x20-\x7e]{0,4096}$/
const storage = new AsyncLocalStorage<ServerContext>()

/** The context of the call that is being answered here; what the library's clients inherit from. */
export function currentCall(): CallContext | undefined {
  return storage.getStore()
}

/** Runs a part outside of any call: what it opens outlives the call in which it happens to be opened. */
export function outsideOfCalls<T>(part: () => T): T {
  return storage.exit(() => traceContext.with(ROOT_CONTEXT, part))
}

/** The same as `currentCall`, with what only the library may do. */
export function currentServerContext(): ServerContext | undefined {
  return storage.getStore()
}

/** The context of one call on the server. Its abort controller exists only for handlers that ask for the signal. */
export class ServerContext implements CallContext {
  readonly method: string
  readonly #exchange: Exchange
  readonly #trace: Context
  #controller: AbortController | undefined
  #failure: Failure | undefined
  #trailers: Record<string, string> | undefined
  #listeners: Set<(failure: Failure) => void> | undefined

  constructor(method: string, exchange: Exchange, trace: Context) {
    this.method = method
    this.#exchange = exchange
    this.#trace = trace
  }

  get deadlineMs(): number {
    return this.#exchange.deadlineMs
  }

  get peer(): string {
    return this.#exchange.peer
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#failure !== undefined) this.#controller.abort(this.#failure)
    }
    return this.#controller.signal
  }

  get trailers(): Trailers | undefined {
    return this.#trailers
  }

  remainingMs(): number {
    return Math.max(0, this.deadlineMs - Date.now())
  }

  header(name: string): string | undefined {
    return this.#exchange.header(name)
  }

  setTrailer(name: string, value: string): void {
    if (!TRAILER_NAME.test(name) || !TRAILER_VALUE.test(value)) throw new TypeError(`${name} is no trailer`)
    this.#trailers ??= {}
    this.#trailers[name] = value
  }

  /** Aborts the signal. */
  abort(failure: Failure): void {
    this.#failure ??= failure
    this.#controller?.abort(failure)
    for (const listener of this.#listeners ?? []) listener(failure)
    this.#listeners = undefined
  }

  /** Why the call was aborted, once it was. */
  get aborted(): Failure | undefined {
    return this.#failure
  }

  /** Hears of an abort without the cost of a signal; returns what stops listening. */
  onAbort(listener: (failure: Failure) => void): () => void {
    this.#listeners ??= new Set()
    this.#listeners.add(listener)
    return () => this.#listeners?.delete(listener)
  }

  /** Runs a part of the handler so that the calls it makes inherit deadline, cancellation and trace. */
  run<T>(part: () => T): T {
    if (this.#trace === ROOT_CONTEXT) return storage.run(this, part)
    return storage.run(this, () => traceContext.with(this.#trace, part))
  }
}
