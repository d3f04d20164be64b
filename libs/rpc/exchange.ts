import type { Failure } from './failure.ts'

/**
 * The server's side of one call in bytes: the port between what the library does with calls and what carries them.
 * Two adapters: `grpc-js-exchange.ts` and `lean-exchange.ts`. Both keep these promises, and one contract test
 * (`exchange.contract.test.ts`) holds both to them:
 *
 * 1. A listener hears messages in the order in which they were sent, then `end` once if the caller half-closed.
 * 2. `cancel` is heard at most once, and only when the call was over before this side ended it: the caller reset it or
 *    is gone (CANCELLED), or its deadline passed (DEADLINE_EXCEEDED, which the caller was then told).
 * 3. Nothing is heard after `cancel`, `finish`, `answer` or `fail`; calling one of these or `write` after that does nothing.
 * 4. A message above the request limit, a compression that is not known and bytes that are no frames end the call with
 *    RESOURCE_EXHAUSTED, UNIMPLEMENTED and INVALID_ARGUMENT; the listener hears that as `cancel`.
 * 5. `write` never drops and never waits; it answers false while more than the buffer limit waits for the caller, and
 *    `drain` is heard when that is over.
 * 6. A failure reaches the caller with code, message and details, whatever was written before.
 */
export interface Exchange {
  /** Path of the method, such as `/slipway.testing.v1.EchoService/Echo`. */
  readonly path: string
  /** Address of the caller. */
  readonly peer: string
  /** When the caller stops waiting, in epoch milliseconds; Infinity when it did not say. */
  readonly deadlineMs: number
  /** True once `cancel` was heard. */
  readonly cancelled: boolean
  /** True while more than the buffer limit waits for the caller. */
  readonly needsDrain: boolean
  /** True once `end` was heard or passed over: the caller sends no more. */
  readonly halfClosed: boolean
  /** How many messages came and went; a drain tells by it which streams are idle. */
  readonly moves: number
  /** A request header, by its lower-case name; binary ones as base64 text. */
  header(name: string): string | undefined
  /** Begins to listen; called once, in the turn in which the exchange was handed over. */
  listen(listener: ExchangeListener): void
  /** Stops reading, so that the caller is held back by flow control. */
  pause(): void
  /** Reads on. */
  resume(): void
  /** Sends a message; false while the caller should not be sent more. */
  write(message: Uint8Array): boolean
  /** Sends the only message and OK. */
  answer(message: Uint8Array, trailers?: Trailers): void
  /** Sends OK. */
  finish(trailers?: Trailers): void
  /** Sends a failure. */
  fail(failure: Failure, trailers?: Trailers): void
}

/** Metadata that goes with the status. */
export type Trailers = Readonly<Record<string, string>>

/** Who hears of an exchange. */
export interface ExchangeListener {
  /** Given all that is to be heard of messages that came in one piece, by adapters that see pieces; it calls `hear` at once. */
  together?(hear: () => void): void
  /** A whole message; the bytes are the listener's own. */
  message(bytes: Buffer): void
  /** The caller sends no more. */
  end(): void
  /** The call is over, and why. */
  cancel(failure: Failure): void
  /** What was written is on its way. */
  drain?(): void
}

/** Told once when an exchange is over, however it ended: nothing for OK, else the failure that the caller was told. */
export type Settled = (failure: Failure | undefined) => void
