/**
 * The few pieces of the protobuf wire format that the hot path writes and reads by hand: what a generic decoder would
 * build as objects is here a position in bytes. Rules: a message is a sequence of fields in any order; of a singular
 * field that comes twice the last value counts; unknown fields are skipped.
 */

/** Wire type of a varint. */
export const VARINT = 0
/** Wire type of eight little-endian bytes. */
export const FIXED64 = 1
/** Wire type of a length and that many bytes. */
export const BYTES = 2
/** Wire type of four little-endian bytes. */
export const FIXED32 = 5

/** The bytes are not a protobuf message. */
export class MalformedMessage extends Error {}

/** Walks over the fields of one message inside a buffer. */
export class FieldReader {
  /** Number of the current field. */
  field = 0
  /** Wire type of the current field. */
  wireType = 0
  /** First byte of the current field's value (of a length-delimited field: of its content). */
  start = 0
  /** Byte after the current field's value. */
  end = 0
  readonly #bytes: Buffer
  readonly #limit: number
  #at: number

  constructor(bytes: Buffer, start = 0, limit = bytes.length) {
    this.#bytes = bytes
    this.#at = start
    this.#limit = limit
  }

  /** Goes to the next field; false at the end. Throws MalformedMessage when the bytes are no message. */
  next(): boolean {
    if (this.#at >= this.#limit) return false
    const tag = this.#varint()
    this.field = tag >>> 3
    this.wireType = tag & 7
    if (this.field === 0) throw new MalformedMessage('a field has number 0')
    this.start = this.#at
    if (this.wireType === BYTES) {
      const length = this.#varint()
      this.start = this.#at
      this.#at += length
    } else if (this.wireType === VARINT) this.#skipVarint()
    else if (this.wireType === FIXED64) this.#at += 8
    else if (this.wireType === FIXED32) this.#at += 4
    else throw new MalformedMessage(`field ${this.field} has wire type ${this.wireType}`)
    if (this.#at > this.#limit) throw new MalformedMessage(`field ${this.field} ends after its message`)
    this.end = this.#at
    return true
  }

  /** The current field as text. */
  text(): string {
    this.#expect(BYTES)
    return this.#bytes.toString('utf8', this.start, this.end)
  }

  /** Whether the current field holds exactly these bytes. */
  equals(bytes: Uint8Array): boolean {
    if (this.wireType !== BYTES || this.end - this.start !== bytes.length) return false
    for (let index = 0; index < bytes.length; index++) {
      if (this.#bytes[this.start + index] !== bytes[index]) return false
    }
    return true
  }

  /** The current field's bytes, not copied. */
  bytes(): Buffer {
    this.#expect(BYTES)
    return this.#bytes.subarray(this.start, this.end)
  }

  /** The current field as a message. */
  message(): FieldReader {
    this.#expect(BYTES)
    return new FieldReader(this.#bytes, this.start, this.end)
  }

  /** The current field as a double. */
  double(): number {
    this.#expect(FIXED64)
    return this.#bytes.readDoubleLE(this.start)
  }

  /** The current field as a signed integer: a number where it is safe, a bigint beyond. */
  integer(): number | bigint {
    this.#expect(VARINT)
    return readInteger(this.#bytes, this.start, this.end)
  }

  #expect(wireType: number): void {
    if (this.wireType !== wireType) throw new MalformedMessage(`field ${this.field} has wire type ${this.wireType}`)
  }

  /** A varint below 2^31: tags and lengths. */
  #varint(): number {
    let value = 0
    for (let shift = 0; shift < 35; shift += 7) {
      if (this.#at >= this.#limit) break
      const byte = this.#bytes[this.#at++] as number
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) {
        if (value > 0x7fffffff) break
        return value
      }
    }
    throw new MalformedMessage('a tag or length is cut off or too large')
  }

  #skipVarint(): void {
    for (let length = 0; length < 10; length++) {
      if (this.#at >= this.#limit) break
      if ((this.#bytes[this.#at++] as number) < 0x80) return
    }
    throw new MalformedMessage('a number is cut off or too long')
  }
}

/** A varint between two positions as a signed 64-bit integer: a number where it is safe, a bigint beyond. */
export function readInteger(bytes: Buffer, start: number, end: number): number | bigint {
  // Eight bytes hold 56 bits: exact as a number while the uppermost group stays below 2^53.
  if (end - start <= 7 || (end - start === 8 && (bytes[end - 1] as number) < 16)) {
    let value = 0
    for (let at = end - 1; at >= start; at--) value = value * 128 + ((bytes[at] as number) & 0x7f)
    return value
  }
  let value = 0n
  for (let at = end - 1; at >= start; at--) value = (value << 7n) | BigInt((bytes[at] as number) & 0x7f)
  const signed = BigInt.asIntN(64, value)
  return signed >= BigInt(Number.MIN_SAFE_INTEGER) && signed <= BigInt(Number.MAX_SAFE_INTEGER)
    ? Number(signed)
    : signed
}

/** Reads a packed or single varint field into `values`. */
export function readIntegers(reader: FieldReader, bytes: Buffer, values: (number | bigint)[]): void {
  if (reader.wireType === VARINT) {
    values.push(reader.integer())
    return
  }
  if (reader.wireType !== BYTES) throw new MalformedMessage(`field ${reader.field} has wire type ${reader.wireType}`)
  let start = reader.start
  for (let at = start; at < reader.end; at++) {
    if ((bytes[at] as number) >= 0x80) continue
    values.push(readInteger(bytes, start, at + 1))
    start = at + 1
  }
  if (start !== reader.end) throw new MalformedMessage('a packed number is cut off')
}
