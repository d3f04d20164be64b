/** Compares two raw tensors of one datatype and shape, element by element. Pure. */
import type { Datatype } from '@slipway/onnx'

/** How far two numbers may lie apart: `absolute + relative × |expected|`. */
export interface Tolerance {
  readonly relative: number
  readonly absolute: number
}

/** The first element that differs. */
export interface Difference {
  /** Its place, row-major. */
  readonly index: number
  /** How far apart the numbers are; undefined where they are not numbers, or one is not finite. */
  readonly difference: number | undefined
  /** What was allowed. */
  readonly tolerance: Tolerance
}

/**
 * What runtimes and machines may make of the same model: ONNX's own tests of backends allow 1e-3 relative. Half precision has
 * 11 bits, bfloat 8. Everything that is not a floating-point number must be equal.
 */
const tolerances: Readonly<Partial<Record<Datatype, Tolerance>>> = {
  FP64: { relative: 1e-3, absolute: 1e-5 },
  FP32: { relative: 1e-3, absolute: 1e-5 },
  FP16: { relative: 1e-2, absolute: 1e-3 },
  BF16: { relative: 4e-2, absolute: 1e-2 },
}

const readers: Readonly<
  Partial<Record<Datatype, { readonly bytes: number; read(view: DataView, at: number): number }>>
> = {
  FP64: { bytes: 8, read: (view, at) => view.getFloat64(at, true) },
  FP32: { bytes: 4, read: (view, at) => view.getFloat32(at, true) },
  FP16: { bytes: 2, read: (view, at) => view.getFloat16(at, true) },
  BF16: { bytes: 2, read: (view, at) => bfloat(view.getUint16(at, true)) },
}

const EXACT: Tolerance = { relative: 0, absolute: 0 }

const exactBytes: Readonly<Partial<Record<Datatype, number>>> = {
  BOOL: 1,
  INT8: 1,
  UINT8: 1,
  INT16: 2,
  UINT16: 2,
  INT32: 4,
  UINT32: 4,
  INT64: 8,
  UINT64: 8,
}

/** The first element of `given` that is not the expected one; undefined when all are. NaN equals NaN. */
export function firstDifference(
  datatype: Datatype,
  expected: Buffer,
  given: Buffer,
  stated: Partial<Tolerance> = {},
): Difference | undefined {
  if (datatype === 'BYTES') return firstOtherText(expected, given)
  const reader = readers[datatype]
  if (reader === undefined) return firstOtherInteger(exactBytes[datatype] ?? 1, expected, given)
  const tolerance = { ...EXACT, ...tolerances[datatype], ...stated }
  const [left, right] = [viewOf(expected), viewOf(given)]
  for (let at = 0, index = 0; at < Math.max(left.byteLength, right.byteLength); at += reader.bytes, index++) {
    if (at + reader.bytes > Math.min(left.byteLength, right.byteLength))
      return { index, difference: undefined, tolerance: EXACT }
    const [wanted, found] = [reader.read(left, at), reader.read(right, at)]
    if (Object.is(wanted, found) || wanted === found) continue
    const allowed = tolerance.absolute + tolerance.relative * Math.abs(wanted)
    const difference = Math.abs(wanted - found)
    // Also false when one is NaN; an infinite one allows nothing but itself.
    if (difference <= allowed && Number.isFinite(wanted)) continue
    return { index, difference: Number.isFinite(difference) ? difference : undefined, tolerance }
  }
  return undefined
}

function firstOtherInteger(bytes: number, expected: Buffer, given: Buffer): Difference | undefined {
  const length = Math.max(expected.length, given.length)
  for (let at = 0; at < length; at++) {
    if (expected[at] !== given[at]) return { index: Math.floor(at / bytes), difference: undefined, tolerance: EXACT }
  }
  return undefined
}

/** Elements of a length (4 bytes, little-endian) and that many bytes. */
function firstOtherText(expected: Buffer, given: Buffer): Difference | undefined {
  if (expected.equals(given)) return undefined
  for (let at = 0, index = 0; ; index++) {
    const end = at + 4 <= expected.length ? at + 4 + expected.readUInt32LE(at) : at
    const isSame = end > at && end <= given.length && expected.subarray(at, end).equals(given.subarray(at, end))
    if (!isSame) return { index, difference: undefined, tolerance: EXACT }
    at = end
  }
}

function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}

function bfloat(bits: number): number {
  const view = new DataView(new ArrayBuffer(4))
  view.setUint32(0, bits << 16)
  return view.getFloat32(0)
}
