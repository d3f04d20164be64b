import { Code } from './code.ts'
import type { Exchange } from './exchange.ts'
import { Failure } from './failure.ts'

/**
 * The calls that a server is answering, and how they end when it drains.
 *
 * 1. A call that is being worked on finishes: a unary one, an upload that was sent completely, a stream that moves.
 * 2. A stream on which nothing came or went for `quietMs` is ended with UNAVAILABLE, so that its caller goes elsewhere.
 * 3. After `graceMs` whatever is left is ended with UNAVAILABLE.
 */
export class ActiveCalls {
  readonly #calls = new Map<Exchange, { readonly streams: 'none' | 'requests' | 'answers'; moves: number }>()
  #emptied: (() => void) | undefined

  /** How many calls are being answered. */
  get size(): number {
    return this.#calls.size
  }

  /** Adds a call that has begun; `streams` tells what keeps it open. */
  add(exchange: Exchange, streams: 'none' | 'requests' | 'answers'): void {
    this.#calls.set(exchange, { streams, moves: exchange.moves })
  }

  /** Removes a call that is over. */
  delete(exchange: Exchange): void {
    this.#calls.delete(exchange)
    if (this.#calls.size === 0) this.#emptied?.()
  }

  /** Resolves when no call is left. */
  async drain(graceMs: number, quietMs: number): Promise<void> {
    if (this.#calls.size === 0) return
    const quiet = setInterval(() => this.#endQuiet(), quietMs)
    const grace = setTimeout(() => this.endAll(), graceMs)
    await new Promise<void>((resolve) => {
      this.#emptied = resolve
    })
    clearInterval(quiet)
    clearTimeout(grace)
  }

  /** Ends every call. */
  endAll(): void {
    for (const exchange of [...this.#calls.keys()]) exchange.fail(interrupted())
  }

  #endQuiet(): void {
    for (const [exchange, call] of [...this.#calls]) {
      const isQuiet = exchange.moves === call.moves && !exchange.needsDrain
      call.moves = exchange.moves
      const isWork = call.streams === 'none' || (call.streams === 'requests' && exchange.halfClosed)
      if (isQuiet && !isWork) exchange.fail(draining())
    }
  }
}

/** UNAVAILABLE for a call that had begun and did not finish in time; nobody knows what it did. */
function interrupted(): Failure {
  return new Failure(Code.UNAVAILABLE, 'INTERRUPTED', 'the server went away before the call was finished')
}

function draining(): Failure {
  return new Failure(Code.UNAVAILABLE, 'DRAINING', 'the server is draining')
}
