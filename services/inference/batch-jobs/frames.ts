/**
 * Messages between the service and a reader process: a head in JSON and pieces of bytes behind it, over a stream. Layout:
 * bytes of all that follows (4), bytes of the head (4), the head, the pieces; numbers little-endian.
 */

/** Bytes of one message at most. */
export const MAX_FRAME_BYTES = 512 * 1024 * 1024

const PREFIX_BYTES = 8
/** Messages whose memory is kept. */
const MAX_FREE = 8
const MIN_REUSED_BYTES = 64 * 1024

/** A message: `head` is JSON, `pieces` are bytes. */
export interface Frame<Head> {
  readonly head: Head
  readonly pieces: readonly Buffer[]
}

/** The bytes of a message, in the pieces that a stream is to be given in order. */
export function encodeFrame(head: unknown, pieces: readonly Uint8Array[] = []): Uint8Array[] {
  const sizes = pieces.map((piece) => piece.length)
  const headBytes = Buffer.from(JSON.stringify({ head, sizes }))
  const total = PREFIX_BYTES - 4 + headBytes.length + sizes.reduce((sum, size) => sum + size, 0)
  if (total > MAX_FRAME_BYTES) throw new RangeError(`a message of ${total} bytes, at most ${MAX_FRAME_BYTES} are sent`)
  const prefix = Buffer.alloc(PREFIX_BYTES)
  prefix.writeUInt32LE(total, 0)
  prefix.writeUInt32LE(headBytes.length, 4)
  return [Buffer.concat([prefix, headBytes]), ...pieces]
}

/**
 * Puts messages together again from what a stream gives. Memory of messages that were given back is used again: large
 * messages one after another would keep the garbage collector busy.
 */
export class FrameReader<Head> {
  readonly #onFrame: (frame: Frame<Head>) => void
  readonly #free: Buffer[] = []
  readonly #lent = new WeakMap<Frame<Head>, Buffer>()
  readonly #prefix = Buffer.alloc(PREFIX_BYTES)
  #filled = 0
  #body: Buffer | undefined
  #bodyBytes = 0

  constructor(onFrame: (frame: Frame<Head>) => void) {
    this.#onFrame = onFrame
  }

  /** Takes what came. */
  push(chunk: Buffer): void {
    let at = 0
    while (at < chunk.length) {
      if (this.#body === undefined) {
        const taken = chunk.copy(this.#prefix, this.#filled, at, at + PREFIX_BYTES - this.#filled)
        at += taken
        this.#filled += taken
        if (this.#filled === PREFIX_BYTES) this.#begin()
      } else {
        const taken = chunk.copy(this.#body, this.#filled, at, at + this.#bodyBytes - this.#filled)
        at += taken
        this.#filled += taken
      }
      if (this.#body !== undefined && this.#filled === this.#bodyBytes) this.#end(this.#body)
    }
  }

  /** Gives a message's memory back: its pieces hold other bytes from now on. */
  release(frame: Frame<Head>): void {
    const memory = this.#lent.get(frame)
    this.#lent.delete(frame)
    if (memory !== undefined && this.#free.length < MAX_FREE) this.#free.push(memory)
  }

  #begin(): void {
    const bytes = this.#prefix.readUInt32LE(0) - 4
    if (bytes < 0 || bytes > MAX_FRAME_BYTES) throw new RangeError(`a message of ${bytes} bytes`)
    const index = this.#free.findIndex(({ length }) => length >= bytes && length <= 2 * bytes + MIN_REUSED_BYTES)
    const [found = Buffer.allocUnsafeSlow(bytes)] = index < 0 ? [] : this.#free.splice(index, 1)
    this.#body = found
    this.#bodyBytes = bytes
    this.#filled = 0
  }

  #end(body: Buffer): void {
    const frame = decode<Head>(body, this.#prefix.readUInt32LE(4))
    this.#lent.set(frame, body)
    this.#body = undefined
    this.#filled = 0
    this.#onFrame(frame)
  }
}

function decode<Head>(bytes: Buffer, headEnd: number): Frame<Head> {
  const { head, sizes } = JSON.parse(bytes.toString('utf8', 0, headEnd)) as { head: Head; sizes: number[] }
  let at = headEnd
  const pieces = sizes.map((size) => {
    at += size
    return bytes.subarray(at - size, at)
  })
  return { head, pieces }
}
