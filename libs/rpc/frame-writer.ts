import type { Writable } from 'node:stream'
import { frame } from './framing.ts'

/** Pieces of one turn that are joined by copying; larger ones are written one after the other. */
const MAX_JOINED_BYTES = 64 * 1024

/**
 * Writes messages as frames.
 *
 * 1. Messages leave in the order in which they were written; none is dropped while the stream lives.
 * 2. All that are written in one turn of the event loop leave together.
 */
export class FrameWriter {
  readonly #stream: Writable
  readonly #bufferBytes: number
  readonly #prepare: (() => void) | undefined
  #frames: Buffer[] = []
  #bytes = 0
  #planned = false

  /** `prepare` is called before frames are written, each time. */
  constructor(stream: Writable, bufferBytes: number, prepare?: () => void) {
    this.#stream = stream
    this.#bufferBytes = bufferBytes
    this.#prepare = prepare
  }

  /** Whether nothing waits for the end of the turn. */
  get isEmpty(): boolean {
    return this.#bytes === 0
  }

  /** True while more than the buffer's limit waits for the peer. */
  get needsDrain(): boolean {
    return this.#bytes + this.#stream.writableLength > this.#bufferBytes
  }

  /** Adds a message that leaves with the next `flush`. */
  add(message: Uint8Array): void {
    const framed = frame(message)
    this.#frames.push(framed)
    this.#bytes += framed.length
  }

  /** Adds a message that leaves at the end of this turn. */
  write(message: Uint8Array): void {
    this.add(message)
    if (this.#planned) return
    this.#planned = true
    setImmediate(() => {
      this.#planned = false
      this.flush()
    })
  }

  /** Writes what waits. */
  flush(): void {
    const stream = this.#stream
    const frames = this.#frames
    const bytes = this.#bytes
    if (bytes === 0) return
    this.#frames = []
    this.#bytes = 0
    if (stream.destroyed || stream.writableEnded) return
    this.#prepare?.()
    const [first] = frames
    if (frames.length === 1 && first !== undefined) stream.write(first)
    else if (bytes <= MAX_JOINED_BYTES) stream.write(Buffer.concat(frames, bytes))
    else for (const framed of frames) stream.write(framed)
  }
}
