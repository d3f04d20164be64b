/** The protobuf wire format written by hand, see `wire-reader.ts`. */
import { BYTES, FIXED64, VARINT } from './wire-reader.ts'

const INITIAL_CAPACITY_BYTES = 16 * 1024

/**
 * Writes messages into one growing buffer that is used again and again; `take` copies a finished message out. Nested
 * messages are opened and closed, their length is put in afterwards. Not for use across an await.
 */
export class FieldWriter {
  #bytes = Buffer.allocUnsafeSlow(INITIAL_CAPACITY_BYTES)
  #at = 0

  /** Bytes written so far. */
  get length(): number {
    return this.#at
  }

  /** Forgets what was written, after a fault. */
  clear(): void {
    this.#at = 0
  }

  /** Copies out what was written and starts anew. */
  take(): Buffer {
    const message = Buffer.allocUnsafe(this.#at)
    this.#bytes.copy(message, 0, 0, this.#at)
    this.#at = 0
    return message
  }

  /** Copies out `head` and what was written behind it, and starts anew: the head is copied once, whatever its size. */
  takeAfter(head: Uint8Array): Buffer {
    const message = Buffer.allocUnsafe(head.length + this.#at)
    message.set(head)
    this.#bytes.copy(message, head.length, 0, this.#at)
    this.#at = 0
    return message
  }

  /** The same as the content of a field of another message. */
  takeWrappedAfter(field: number, head: Uint8Array): Buffer {
    const tail = this.#at
    const length = head.length + tail
    this.#tag(field, BYTES)
    this.#varint(length)
    const message = Buffer.allocUnsafe(this.#at - tail + length)
    const start = this.#bytes.copy(message, 0, tail, this.#at)
    message.set(head, start)
    this.#bytes.copy(message, start + head.length, 0, tail)
    this.#at = 0
    return message
  }

  /** Bytes as they are: a field that was encoded before. */
  encoded(bytes: Uint8Array): void {
    this.#reserve(bytes.length)
    this.#bytes.set(bytes, this.#at)
    this.#at += bytes.length
  }

  /** A varint field, 0 to 2^53. */
  integer(field: number, value: number): void {
    this.#tag(field, VARINT)
    this.#varint(value)
  }

  /** A varint field that may be negative. */
  signedInteger(field: number, value: number | bigint): void {
    this.#tag(field, VARINT)
    this.packedInteger(value)
  }

  /** A signed 64-bit varint without its tag, for packed fields. */
  packedInteger(value: number | bigint): void {
    if (typeof value === 'number' && value >= 0) {
      this.#reserve(10)
      this.#varint(value)
      return
    }
    this.#reserve(10)
    let rest = BigInt.asUintN(64, BigInt(value))
    while (rest > 0x7fn) {
      this.#bytes[this.#at++] = Number(rest & 0x7fn) | 0x80
      rest >>= 7n
    }
    this.#bytes[this.#at++] = Number(rest)
  }

  /** A double field. */
  double(field: number, value: number): void {
    this.#tag(field, FIXED64)
    this.rawDouble(value)
  }

  /** Eight little-endian bytes without a tag. */
  rawDouble(value: number): void {
    this.#reserve(8)
    this.#at = this.#bytes.writeDoubleLE(value, this.#at)
  }

  /** A text field. */
  text(field: number, value: string): void {
    this.#tag(field, BYTES)
    this.#reserve(value.length * 3 + 5)
    const length = value.length < 32 ? this.#ascii(value, this.#at + 1) : -1
    if (length >= 0) {
      this.#bytes[this.#at] = length
      this.#at += 1 + length
      return
    }
    const size = Buffer.byteLength(value)
    this.#varint(size)
    this.#at += this.#bytes.write(value, this.#at, size, 'utf8')
  }

  /** A bytes field. */
  bytes(field: number, value: Uint8Array): void {
    this.#tag(field, BYTES)
    this.#varint(value.length)
    this.encoded(value)
  }

  /** Room for a bytes field of a known length, to be filled by the caller: returns the buffer and where it starts. */
  room(field: number, length: number): { bytes: Buffer; start: number } {
    this.#tag(field, BYTES)
    this.#varint(length)
    this.#reserve(length)
    const start = this.#at
    this.#at += length
    return { bytes: this.#bytes, start }
  }

  /** Opens a nested message or packed field; give what it returns to `close`. */
  open(field: number): number {
    this.#tag(field, BYTES)
    return this.#at++
  }

  /** Closes what `open` opened. */
  close(opened: number): void {
    const length = this.#at - opened - 1
    if (length < 0x80) {
      this.#bytes[opened] = length
      return
    }
    const extra = length < 0x4000 ? 1 : length < 0x200000 ? 2 : length < 0x10000000 ? 3 : 4
    this.#reserve(extra)
    this.#bytes.copyWithin(opened + 1 + extra, opened + 1, this.#at)
    const end = this.#at + extra
    this.#at = opened
    this.#varint(length)
    this.#at = end
  }

  #tag(field: number, wireType: number): void {
    this.#reserve(16)
    const tag = (field << 3) | wireType
    if (tag < 0x80) this.#bytes[this.#at++] = tag
    else {
      this.#bytes[this.#at++] = (tag & 0x7f) | 0x80
      this.#bytes[this.#at++] = tag >>> 7
    }
  }

  #varint(value: number): void {
    let rest = value
    while (rest > 0x7f) {
      this.#bytes[this.#at++] = (rest % 128) | 0x80
      rest = Math.floor(rest / 128)
    }
    this.#bytes[this.#at++] = rest
  }

  /** Writes ASCII text and returns its length, or -1 when the text is not ASCII. */
  #ascii(value: string, start: number): number {
    for (let index = 0; index < value.length; index++) {
      const code = value.charCodeAt(index)
      if (code > 0x7f) return -1
      this.#bytes[start + index] = code
    }
    return value.length
  }

  #reserve(length: number): void {
    if (this.#at + length <= this.#bytes.length) return
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#at + length))
    this.#bytes.copy(grown, 0, 0, this.#at)
    this.#bytes = grown
  }
}
