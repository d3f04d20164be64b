/**
 * Has expressions evaluated on the event loop without holding it up.
 *
 * 1. In one turn of the event loop no more is evaluated than `MAX_TURN_MS` allows, whoever it is for; what is left goes on in
 *    the next turn. It is exceeded by one piece at the most, which is cut to a fraction of it.
 * 2. Those who wait get pieces in turn, so a request of a few rows does not wait for one of a hundred thousand.
 * 3. Work in the background gets one piece in eight while other work waits.
 * 4. What fits into what is left of the turn in which it comes is done in it, without waiting.
 */

/** Time of one turn of the event loop that expressions may take. */
export const MAX_TURN_MS = 2

const PIECES_BEFORE_BACKGROUND = 7

/** Work that can be done piece by piece: each `next` does one. */
export interface Pieces {
  next(): { readonly done?: boolean | undefined }
}

interface Waiting {
  readonly pieces: Pieces
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/** See the top of this file. */
export class ExpressionTurns {
  readonly #waiting: Waiting[] = []
  readonly #background: Waiting[] = []
  #piecesSinceBackground = 0
  readonly #now: () => number
  #leftMs = MAX_TURN_MS
  #isPlanned = false

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** Resolves when all pieces are done; rejects with what one of them throws. */
  run(pieces: Pieces, isBackground = false): Promise<void> {
    return new Promise((resolve, reject) => {
      const isIdle = this.#waiting.length + this.#background.length === 0
      const line = isBackground ? this.#background : this.#waiting
      line.push({ pieces, resolve, reject })
      if (isIdle) this.#work()
    })
  }

  /** The line whose turn it is; undefined when nobody waits. */
  #nextLine(): Waiting[] | undefined {
    const isBackgroundDue = this.#waiting.length === 0 || this.#piecesSinceBackground >= PIECES_BEFORE_BACKGROUND
    if (this.#background.length > 0 && isBackgroundDue) {
      this.#piecesSinceBackground = 0
      return this.#background
    }
    this.#piecesSinceBackground++
    return this.#waiting.length > 0 ? this.#waiting : undefined
  }

  #work(): void {
    let now = this.#now()
    while (this.#leftMs > 0) {
      const line = this.#nextLine()
      const next = line?.shift()
      if (line === undefined || next === undefined) break
      if (!advance(next)) line.push(next)
      const after = this.#now()
      this.#leftMs -= after - now
      now = after
    }
    if (this.#isPlanned) return
    this.#isPlanned = true
    setImmediate(() => {
      this.#isPlanned = false
      this.#leftMs = MAX_TURN_MS
      if (this.#waiting.length + this.#background.length > 0) this.#work()
    })
  }
}

/** Does one piece; true when it was the last. */
function advance({ pieces, resolve, reject }: Waiting): boolean {
  try {
    if (pieces.next().done !== true) return false
    resolve()
  } catch (error) {
    reject(error)
  }
  return true
}
