/**
 * What a server and an executor's process say to each other, over a socket that the process has as its channel 3: frames
 * of a head and a payload. The payload of a batch and of its answer is laid out as `layout.ts` says, a group is JSON, texts are UTF-8.
 *
 *     head:  [kind, bytes of the payload, memory of the process in KiB, 0], 32-bit words
 *
 * Measured against structured clones over Node's own channel, both ways: 31 against 42 microseconds for a small batch,
 * 0.9 against 4.7 ms for 1 MiB.
 */
import { type Memory, memoryOver } from './layout.ts'

/** The channel of the process. */
export const CHANNEL = 3

/** Bytes of a head. */
export const HEAD_BYTES = 16

/** What a frame is. */
export const frameKind = {
  modelBytes: 1,
  modelPath: 2,
  group: 3,
  forgetGroups: 4,
  batch: 5,
  ready: 6,
  refused: 7,
  answer: 8,
  failed: 9,
  skipped: 10,
} as const

/** One of them. */
export type FrameKind = (typeof frameKind)[keyof typeof frameKind]

/** A head. */
export interface FrameHead {
  readonly kind: number
  readonly length: number
  readonly memoryKib: number
}

/** A frame that has arrived; its memory is used again for the next one. */
export interface Frame extends FrameHead {
  readonly payload: Memory
}

/** The bytes of a head. */
export function encodeHead(kind: FrameKind, length: number, memoryKib = 0): Buffer {
  const head = Buffer.alloc(HEAD_BYTES)
  head.writeUInt32LE(kind, 0)
  head.writeUInt32LE(length, 4)
  head.writeUInt32LE(memoryKib, 8)
  return head
}

/** Reads a head. */
export function decodeHead(head: Buffer): FrameHead {
  return { kind: head.readUInt32LE(0), length: head.readUInt32LE(4), memoryKib: head.readUInt32LE(8) }
}

/** Memory that is used again, and given up after something large. */
export class FrameMemory {
  readonly #keptBytes: number
  #memory = memoryOver(new ArrayBuffer(0))

  constructor(keptBytes: number) {
    this.#keptBytes = keptBytes
  }

  /** Memory of at least so many bytes. */
  atLeast(bytes: number): Memory {
    const { length } = this.#memory.bytes
    if (length < bytes || (length > this.#keptBytes && bytes <= this.#keptBytes)) {
      this.#memory = memoryOver(new ArrayBuffer(2 ** Math.ceil(Math.log2(Math.max(bytes, 4096)))))
    }
    return this.#memory
  }
}

/** Puts frames together from the pieces in which they arrive. */
export function frameReader(keptBytes: number, hear: (frame: Frame) => void): (piece: Buffer) => void {
  const memory = new FrameMemory(keptBytes)
  const head = Buffer.alloc(HEAD_BYTES)
  let filled = 0
  let frame: Frame | undefined
  return (piece) => {
    let at = 0
    while (at < piece.length || (frame !== undefined && filled === frame.length)) {
      const target = frame === undefined ? head : frame.payload.bytes
      const needed = frame === undefined ? HEAD_BYTES : frame.length
      const taken = piece.copy(target, filled, at, at + needed - filled)
      at += taken
      filled += taken
      if (filled < needed) return
      filled = 0
      if (frame === undefined) {
        const read = decodeHead(head)
        frame = { ...read, payload: memory.atLeast(read.length) }
      } else {
        const complete = frame
        frame = undefined
        hear(complete)
      }
    }
  }
}
