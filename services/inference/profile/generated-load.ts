import { type Datatype, datatypeBytes } from '@slipway/onnx'
import { createRandom, type Random } from '@slipway/stats'
import type { RawTensor } from '../local-predictions.ts'
import { elements, type ModelSignature } from '../signature.ts'

/** What the requests are like. */
export interface GeneratedLoadOptions {
  readonly rows: number
  /** Size of the dynamic dimensions besides the rows. */
  readonly dynamicSize: number
  readonly seed: bigint
}

/** Requests that differ, so that no two of a batch are the same. */
const REQUESTS = 64

/** Makes requests of a signature: normal numbers, integers from 0 to 9, truths, and texts of three letters; one seed, one load. */
export function generateLoad(
  { inputs, takesRows }: ModelSignature,
  { rows, dynamicSize, seed }: GeneratedLoadOptions,
): RawTensor[][] {
  const random = createRandom(`slipway.profile:${seed}`)
  return Array.from({ length: REQUESTS }, () =>
    inputs.map(({ name, datatype, shape }) => {
      const sizes = shape.map((size, axis) => (size >= 0 ? size : axis === 0 && takesRows ? rows : dynamicSize))
      return { name, datatype, shape: sizes, bytes: valuesOf(datatype, elements(sizes), random) }
    }),
  )
}

function valuesOf(datatype: Datatype, count: number, random: Random): Buffer {
  if (datatype === 'BYTES') return Buffer.concat(Array.from({ length: count }, () => text(random)))
  const bytes = Buffer.alloc(count * datatypeBytes(datatype))
  for (let index = 0; index < count; index++) writers[datatype](bytes, index, random)
  return bytes
}

function text(random: Random): Buffer {
  const bytes = Buffer.from([3, 0, 0, 0, 0, 0, 0])
  for (let at = 4; at < bytes.length; at++) bytes[at] = 97 + random.integer(26)
  return bytes
}

type Write = (bytes: Buffer, index: number, random: Random) => void

/** Half-precision numbers between 1 and 2, whose exponent is fixed and whose fraction is drawn. */
const HALF_ONE = 0x3c00
const BRAIN_ONE = 0x3f80

const writers: Readonly<Record<Exclude<Datatype, 'BYTES'>, Write>> = {
  BOOL: (bytes, index, random) => bytes.writeUInt8(random.integer(2), index),
  UINT8: (bytes, index, random) => bytes.writeUInt8(random.integer(10), index),
  INT8: (bytes, index, random) => bytes.writeInt8(random.integer(10), index),
  UINT16: (bytes, index, random) => bytes.writeUInt16LE(random.integer(10), 2 * index),
  INT16: (bytes, index, random) => bytes.writeInt16LE(random.integer(10), 2 * index),
  UINT32: (bytes, index, random) => bytes.writeUInt32LE(random.integer(10), 4 * index),
  INT32: (bytes, index, random) => bytes.writeInt32LE(random.integer(10), 4 * index),
  UINT64: (bytes, index, random) => bytes.writeBigUInt64LE(BigInt(random.integer(10)), 8 * index),
  INT64: (bytes, index, random) => bytes.writeBigInt64LE(BigInt(random.integer(10)), 8 * index),
  FP16: (bytes, index, random) => bytes.writeUInt16LE(HALF_ONE + random.integer(1024), 2 * index),
  BF16: (bytes, index, random) => bytes.writeUInt16LE(BRAIN_ONE + random.integer(128), 2 * index),
  FP32: (bytes, index, random) => bytes.writeFloatLE(random.normal(), 4 * index),
  FP64: (bytes, index, random) => bytes.writeDoubleLE(random.normal(), 8 * index),
}
