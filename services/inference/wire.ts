/**
 * The protobuf wire format, as far as the hot path reads and writes it without a decoder.
 *
 * A ModelInferRequest is seen as three things: its id, its tensors' bytes, and its head, which is everything that says
 * what the tensors are. Callers send the same head again and again, so a head is decoded once and known by its bytes.
 */

import { isUtf8 } from 'node:buffer'

/** Wire type of integers and booleans. */
export const VARINT = 0
/** Wire type of doubles. */
export const FIXED64 = 1
/** Wire type of texts, bytes, messages, and of lists of numbers. */
export const LENGTH_DELIMITED = 2
/** Wire type of floats. */
export const FIXED32 = 5

const MAX_FIELD = 2 ** 29 - 1

/** The bytes are not a message of the type that the method takes. */
export class MalformedMessage extends Error {
  override readonly name = 'MalformedMessage'
}

/** Walks over the fields of one message. Throws {@link MalformedMessage} where there is none. */
export class Fields {
  /** Number of the current field. */
  field = 0
  wire = 0
  /** Where the field's tag begins. */
  tagStart = 0
  /** First byte of the value; of a length-delimited field, of its content. */
  start = 0
  /** Byte after the value. */
  end: number
  readonly #bytes: Buffer
  readonly #limit: number

  constructor(bytes: Buffer, start: number, limit: number) {
    this.#bytes = bytes
    this.#limit = limit
    this.end = start
  }

  next(): boolean {
    if (this.end >= this.#limit) return false
    this.tagStart = this.end
    const tag = this.#varint()
    this.field = Math.floor(tag / 8)
    this.wire = tag % 8
    if (this.field === 0 || this.field > MAX_FIELD) throw new MalformedMessage(`a field has number ${this.field}`)
    if (this.wire === LENGTH_DELIMITED) {
      const length = this.#varint()
      this.start = this.end
      this.end += length
    } else {
      this.start = this.end
      if (this.wire === VARINT) this.#skipVarint()
      else if (this.wire === FIXED64) this.end += 8
      else if (this.wire === FIXED32) this.end += 4
      else throw new MalformedMessage(`a field has wire type ${this.wire}`)
    }
    if (this.end > this.#limit) throw new MalformedMessage('a field is longer than its message')
    return true
  }

  #varint(): number {
    let value = 0
    for (let factor = 1; factor <= 2 ** 28; factor *= 128) {
      const byte = this.end < this.#limit ? (this.#bytes[this.end++] as number) : 0xff
      value += (byte & 0x7f) * factor
      if (byte < 0x80) return value
    }
    throw new MalformedMessage('a tag or a length is cut off')
  }

  #skipVarint(): void {
    for (let count = 0; count < 10; count++) {
      if (this.end >= this.#limit) break
      if ((this.#bytes[this.end++] as number) < 0x80) return
    }
    throw new MalformedMessage('a number is cut off')
  }
}

/** Where the parts of a request lie in its bytes. Positions come in pairs: the first byte, the byte after the last. */
export interface Envelope {
  /** The head's bytes, one character each; equal heads mean the same. */
  readonly head: string
  readonly idStart: number
  readonly idEnd: number
  /** The raw tensors, in order. */
  readonly raws: readonly number[]
  /** The entries of the request's parameters. */
  readonly parameters: readonly number[]
}

const ID = 3
const PARAMETERS = 4
const RAW = 7
const NONE: readonly number[] = []

/** Finds the parts of a ModelInferRequest. Throws {@link MalformedMessage} where the bytes are no message. */
export function scanRequest(bytes: Buffer): Envelope {
  const fields = new Fields(bytes, 0, bytes.length)
  const raws: number[] = []
  let parameters: number[] | undefined
  let head = ''
  let headStart = 0
  let idStart = 0
  let idEnd = 0
  while (fields.next()) {
    const { field } = fields
    if (field !== RAW && field !== ID && field !== PARAMETERS) continue
    if (fields.wire !== LENGTH_DELIMITED) throw new MalformedMessage(`field ${field} has wire type ${fields.wire}`)
    if (fields.tagStart > headStart) head += bytes.toString('latin1', headStart, fields.tagStart)
    headStart = fields.end
    if (field === RAW) raws.push(fields.start, fields.end)
    else if (field === ID) {
      // Of several the last one counts, but all of them are texts.
      if (!isText(bytes, idStart, idEnd)) throw new MalformedMessage('a text is not UTF-8')
      idStart = fields.start
      idEnd = fields.end
    } else {
      parameters ??= []
      parameters.push(fields.start, fields.end)
    }
  }
  if (bytes.length > headStart) head += bytes.toString('latin1', headStart, bytes.length)
  return { head, idStart, idEnd, raws, parameters: parameters ?? NONE }
}

/** A parameter of a request. */
export type ParameterValue = boolean | number | bigint | string

/** Reads one entry of the parameters map; an entry without a value has none here. */
export function readParameter(bytes: Buffer, start: number, end: number): { key: string; value?: ParameterValue } {
  const entry = new Fields(bytes, start, end)
  let key = ''
  let value: ParameterValue | undefined
  while (entry.next()) {
    if (entry.field > 2) continue
    if (entry.wire !== LENGTH_DELIMITED) throw new MalformedMessage(`a parameter has wire type ${entry.wire}`)
    if (entry.field === 1) key = readText(bytes, entry.start, entry.end)
    else {
      const choice = new Fields(bytes, entry.start, entry.end)
      while (choice.next()) value = readChoice(bytes, choice) ?? value
    }
  }
  return value === undefined ? { key } : { key, value }
}

/** The wire type of each kind of value, by its field. */
const choices: readonly (number | undefined)[] = [undefined, VARINT, VARINT, LENGTH_DELIMITED, FIXED64, VARINT]

function readChoice(bytes: Buffer, { field, wire, start, end }: Fields): ParameterValue | undefined {
  const expected = choices[field]
  if (expected === undefined) return undefined
  if (wire !== expected) throw new MalformedMessage(`the value of a parameter has wire type ${wire}`)
  if (wire === LENGTH_DELIMITED) return readText(bytes, start, end)
  if (wire === FIXED64) return bytes.readDoubleLE(start)
  const integer = readInteger(bytes, start, end, field === 2)
  return field === 1 ? integer !== 0 : integer
}

function readText(bytes: Buffer, start: number, end: number): string {
  if (!isText(bytes, start, end)) throw new MalformedMessage('a text is not UTF-8')
  return bytes.toString('utf8', start, end)
}

/** True when bytes are UTF-8. */
export function isText(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at++) if ((bytes[at] as number) >= 0x80) return isUtf8(bytes.subarray(start, end))
  return true
}

/** A 64-bit varint: a number where it is exact, a bigint beyond. */
function readInteger(bytes: Buffer, start: number, end: number, signed = false): number | bigint {
  let small = 0
  if (end - start <= 7) {
    for (let at = end - 1; at >= start; at--) small = small * 128 + ((bytes[at] as number) & 0x7f)
    return small
  }
  let value = 0n
  for (let at = end - 1; at >= start; at--) value = (value << 7n) | BigInt((bytes[at] as number) & 0x7f)
  value = signed ? BigInt.asIntN(64, value) : BigInt.asUintN(64, value)
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value
}

/** Bytes that a length takes as a varint. */
export function lengthBytes(length: number): number {
  if (length < 0x80) return 1
  if (length < 0x4000) return 2
  if (length < 0x200000) return 3
  return length < 0x10000000 ? 4 : 5
}

/** Bytes of a length-delimited field with a number below 16. */
export function fieldBytes(length: number): number {
  return 1 + lengthBytes(length) + length
}

/** Writes tag and length of a length-delimited field with a number below 16; returns where its content begins. */
export function writeFieldHead(target: Buffer, at: number, field: number, length: number): number {
  target[at] = (field << 3) | LENGTH_DELIMITED
  let position = at + 1
  let rest = length
  while (rest >= 0x80) {
    target[position++] = (rest & 0x7f) | 0x80
    rest = Math.floor(rest / 128)
  }
  target[position++] = rest
  return position
}
