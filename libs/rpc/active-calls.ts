import { Code } from './code.ts'
import type { Exchange } from './exchange.ts'
import { Failure } from './failure.ts'

/** A call that is being answered. */
export interface ActiveCall {
  readonly exchange: Exchange
  /** What keeps it open. */
  readonly streams: 'none' | 'requests' | 'answers'
  readonly slot: number
  /** The exchange's `moves` when it was last looked at. */
  moves: number
}

/**
 * The calls that a server is answering, and how they end when it drains.
 *
 * 1. A call that is being worked on finishes: a unary one, an upload that was sent completely, a stream that moves.
 * 2. A stream on which nothing came or went for `quietMs` is ended with UNAVAILABLE, so that its caller goes elsewhere.
 * 3. After `graceMs` whatever is left is ended with UNAVAILABLE.
 */
export class ActiveCalls {
  // Slots that are used again, not a Map or a Set: those make a new table every few calls, and a table that outlived its
  // use keeps the next one alive, and so on, until all calls end up in the old generation.
  readonly #slots: (ActiveCall | undefined)[] = []
  readonly #free: number[] = []
  #emptied: (() => void) | undefined

  /** How many calls are being answered. */
  get size(): number {
    return this.#slots.length - this.#free.length
  }

  /** Adds a call that has begun; `streams` tells what keeps it open. */
  add(exchange: Exchange, streams: ActiveCall['streams']): ActiveCall {
    const slot = this.#free.pop() ?? this.#slots.length
    const call: ActiveCall = { exchange, streams, slot, moves: exchange.moves }
    this.#slots[slot] = call
    return call
  }

  /** Removes a call that is over. */
  delete(call: ActiveCall): void {
    if (this.#slots[call.slot] !== call) return
    this.#slots[call.slot] = undefined
    this.#free.push(call.slot)
    if (this.size === 0) this.#emptied?.()
  }

  /** Resolves when no call is left. */
  async drain(graceMs: number, quietMs: number): Promise<void> {
    if (this.size === 0) return
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
    for (const call of [...this.#slots]) call?.exchange.fail(interrupted())
  }

  #endQuiet(): void {
    for (const call of [...this.#slots]) {
      if (call === undefined) continue
      const { exchange } = call
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
