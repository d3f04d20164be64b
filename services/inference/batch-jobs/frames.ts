/**
 * Messages between the service and a reader process: a head in JSON and pieces of bytes behind it, over a stream. Layout:
 * bytes of all that follows (4), bytes of the head (4), the head, the pieces; numbers little-endian.
 */

/** Bytes of one message at most. */
export const MAX_FRAME_BYTES = 512 * 1024 * 1024

const PREFIX_BYTES = 8

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

/** Puts messages together again from what a stream gives. */
export class FrameReader<Head> {
  readonly #onFrame: (frame: Frame<Head>) => void
  #chunks: Buffer[] = []
  #bytes = 0

  constructor(onFrame: (frame: Frame<Head>) => void) {
    this.#onFrame = onFrame
  }

  /** Takes what came. */
  push(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
    while (this.#bytes >= PREFIX_BYTES) {
      const needed = 4 + this.#peekLength()
      if (needed > MAX_FRAME_BYTES + 4) throw new RangeError(`a message of ${needed} bytes`)
      if (this.#bytes < needed) return
      const all = this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks)
      this.#chunks = all.length === needed ? [] : [all.subarray(needed)]
      this.#bytes -= needed
      this.#onFrame(decode<Head>(all.subarray(4, needed)))
    }
  }

  #peekLength(): number {
    const [first] = this.#chunks
    if (first !== undefined && first.length >= 4) return first.readUInt32LE(0)
    const all = Buffer.concat(this.#chunks)
    this.#chunks = [all]
    return all.readUInt32LE(0)
  }
}

function decode<Head>(bytes: Buffer): Frame<Head> {
  const headEnd = 4 + bytes.readUInt32LE(0)
  const { head, sizes } = JSON.parse(bytes.toString('utf8', 4, headEnd)) as { head: Head; sizes: number[] }
  let at = headEnd
  const pieces = sizes.map((size) => {
    at += size
    return bytes.subarray(at - size, at)
  })
  return { head, pieces }
}
