/**
 * Values as bytes, in a view's order. Each value says its own kind, so a row that was written before a feature was added
 * is read under any version: what stands behind its end is null. Every key has one packing only, and no two keys share one.
 */
import type { FeatureValue } from './values.ts'

const tag = { null: 0, double: 1, integer: 2, text: 3, false: 4, true: 5, bytes: 6 } as const

let scratch = Buffer.allocUnsafe(4096)

/** Packs values, without the nulls at the end; the result is a copy of its own. */
export function packValues(values: readonly FeatureValue[]): Uint8Array {
  let count = values.length
  while (count > 0 && values[count - 1] === null) count -= 1
  let at = 0
  for (let index = 0; index < count; index += 1) at = pack(values[index] ?? null, at)
  return new Uint8Array(scratch.subarray(0, at))
}

/** Reads the first `count` values; what the bytes do not have is null. */
export function unpackValues(bytes: Uint8Array, count: number): FeatureValue[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const values: FeatureValue[] = new Array(count).fill(null)
  for (let index = 0, at = 0; index < count && at < bytes.length; index += 1) {
    const kind = bytes[at]
    at += 1
    switch (kind) {
      case tag.null:
        break
      case tag.double:
        values[index] = view.getFloat64(at, true)
        at += 8
        break
      case tag.integer:
        values[index] = view.getBigInt64(at, true)
        at += 8
        break
      case tag.false:
      case tag.true:
        values[index] = kind === tag.true
        break
      case tag.text:
      case tag.bytes: {
        const end = at + 4 + view.getUint32(at, true)
        const content = bytes.subarray(at + 4, end)
        values[index] = kind === tag.text ? decodeText(content) : content
        at = end
        break
      }
      default:
        throw new RangeError(`packed values have the unknown kind ${kind}`)
    }
  }
  return values
}

function decodeText(content: Uint8Array): string {
  return Buffer.from(content.buffer, content.byteOffset, content.byteLength).toString('utf8')
}

function pack(value: FeatureValue, at: number): number {
  if (value === null) return packTag(tag.null, at, 0)
  switch (typeof value) {
    case 'number':
      packTag(tag.double, at, 8)
      // -0 becomes 0: Parquet writers hold the two for one, and training sets would have either.
      return scratch.writeDoubleLE(value + 0, at + 1)
    case 'bigint':
      packTag(tag.integer, at, 8)
      return scratch.writeBigInt64LE(value, at + 1)
    case 'boolean':
      return packTag(value ? tag.true : tag.false, at, 0)
    case 'string': {
      const length = Buffer.byteLength(value)
      packTag(tag.text, at, 4 + length)
      scratch.writeUInt32LE(length, at + 1)
      return at + 5 + scratch.write(value, at + 5)
    }
    default:
      packTag(tag.bytes, at, 4 + value.length)
      scratch.writeUInt32LE(value.length, at + 1)
      scratch.set(value, at + 5)
      return at + 5 + value.length
  }
}

function packTag(kind: number, at: number, room: number): number {
  const needed = at + 1 + room
  if (needed > scratch.length) {
    const larger = Buffer.allocUnsafe(Math.max(needed, scratch.length * 2))
    scratch.copy(larger)
    scratch = larger
  }
  scratch[at] = kind
  return at + 1
}
