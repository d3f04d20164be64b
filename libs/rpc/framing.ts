import { promisify } from 'node:util'
import { gunzip, inflate } from 'node:zlib'
import { Code } from './code.ts'
import { Failure } from './failure.ts'

/** Bytes before each message: one flag, four for the length. */
export const FRAME_HEADER_BYTES = 5

/** A message as gRPC sends it, uncompressed. */
export function frame(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(FRAME_HEADER_BYTES + message.length)
  framed[0] = 0
  framed.writeUInt32BE(message.length, 1)
  framed.set(message, FRAME_HEADER_BYTES)
  return framed
}

/**
 * Cuts the bytes of a stream into messages.
 *
 * 1. However the bytes are cut on their way, the same messages come out, in order.
 * 2. A message inside one chunk is not copied; one over several chunks is copied once.
 * 3. No more than one message above the limit's size is ever kept: a longer one fails when its length is read.
 */
export class FrameReader {
  readonly #maxBytes: number
  readonly #take: (message: Buffer, compressed: boolean) => void
  #parts: Buffer[] = []
  #have = 0
  #need = FRAME_HEADER_BYTES

  constructor(maxBytes: number, take: (message: Buffer, compressed: boolean) => void) {
    this.#maxBytes = maxBytes
    this.#take = take
  }

  /** True between messages. */
  get atBoundary(): boolean {
    return this.#have === 0
  }

  /** Takes the next bytes. Fails with RESOURCE_EXHAUSTED for a message above the limit, INVALID_ARGUMENT for no frame. */
  push(chunk: Buffer): void {
    if (this.#have === 0) {
      this.#cut(chunk)
      return
    }
    this.#parts.push(chunk)
    this.#have += chunk.length
    if (this.#have < this.#need) return
    const joined = Buffer.concat(this.#parts, this.#have)
    this.#parts = []
    this.#have = 0
    this.#cut(joined)
  }

  #cut(bytes: Buffer): void {
    let at = 0
    this.#need = FRAME_HEADER_BYTES
    while (bytes.length - at >= FRAME_HEADER_BYTES) {
      const flag = bytes[at] ?? 0
      const length = bytes.readUInt32BE(at + 1)
      if (flag > 1) throw new Failure(Code.INVALID_ARGUMENT, 'MALFORMED_FRAME', 'the bytes are not gRPC frames')
      if (length > this.#maxBytes) throw tooLarge(length, this.#maxBytes)
      const end = at + FRAME_HEADER_BYTES + length
      if (end > bytes.length) {
        this.#need = FRAME_HEADER_BYTES + length
        break
      }
      this.#take(bytes.subarray(at + FRAME_HEADER_BYTES, end), flag === 1)
      at = end
    }
    if (at === bytes.length) return
    this.#parts.push(at === 0 ? bytes : bytes.subarray(at))
    this.#have = bytes.length - at
  }
}

/** RESOURCE_EXHAUSTED for a message above its limit. */
export function tooLarge(bytes: number, maxBytes: number): Failure {
  const message = `a message of ${bytes} bytes is above the limit of ${maxBytes}`
  return new Failure(Code.RESOURCE_EXHAUSTED, 'MESSAGE_TOO_LARGE', message)
}

/** Compressions that a peer may use, as `grpc-accept-encoding` lists them. */
export const ACCEPTED_ENCODINGS = 'identity,deflate,gzip'

const decompressors = new Map([
  ['gzip', promisify<Buffer, { maxOutputLength: number }, Buffer>(gunzip)],
  ['deflate', promisify<Buffer, { maxOutputLength: number }, Buffer>(inflate)],
])

/** Whether messages with this `grpc-encoding` can be read. */
export function isReadable(encoding: string | undefined): boolean {
  return encoding === undefined || encoding === 'identity' || decompressors.has(encoding)
}

/** Decompresses a message. Fails with UNIMPLEMENTED for an encoding that is not known, RESOURCE_EXHAUSTED above the limit. */
export async function decompress(message: Buffer, encoding: string | undefined, maxBytes: number): Promise<Buffer> {
  const run = decompressors.get(encoding ?? '')
  if (run === undefined) {
    throw new Failure(Code.UNIMPLEMENTED, 'UNKNOWN_ENCODING', `messages compressed with ${encoding} cannot be read`)
  }
  try {
    return await run(message, { maxOutputLength: Math.max(1, maxBytes) })
  } catch (cause) {
    if (cause instanceof RangeError) {
      const text = `a message decompresses to more than the limit of ${maxBytes} bytes`
      throw new Failure(Code.RESOURCE_EXHAUSTED, 'MESSAGE_TOO_LARGE', text)
    }
    throw new Failure(Code.INVALID_ARGUMENT, 'MALFORMED_MESSAGE', 'a message cannot be decompressed', { cause })
  }
}
