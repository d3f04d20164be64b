/** Numbers as elements of tensors: little-endian, by the datatypes of the Open Inference Protocol. */

/** How one datatype is written and read. */
export interface Element {
  readonly sizeBytes: number
  /** Writes a value at a position; false when the datatype cannot hold it. */
  write(bytes: Buffer, at: number, value: number | bigint): boolean
  /** Reads the value at a position. */
  read(bytes: Buffer, at: number): number
}

/** How a datatype is written and read; undefined for texts and half floats. */
export function elementOf(datatype: string): Element | undefined {
  return elements.get(datatype)
}

function integer(
  sizeBytes: number,
  low: number,
  high: number,
  write: (bytes: Buffer, value: number, at: number) => void,
  read: (bytes: Buffer, at: number) => number,
): Element {
  return {
    sizeBytes,
    write(bytes, at, value) {
      const number = Number(value)
      if (!Number.isInteger(number) || number < low || number > high) return false
      write(bytes, number, at)
      return true
    },
    read,
  }
}

function wideInteger(
  low: bigint,
  high: bigint,
  write: (bytes: Buffer, value: bigint, at: number) => void,
  read: (bytes: Buffer, at: number) => bigint,
): Element {
  return {
    sizeBytes: 8,
    write(bytes, at, value) {
      if (typeof value === 'number' && !Number.isInteger(value)) return false
      const wide = BigInt(value)
      if (wide < low || wide > high) return false
      write(bytes, wide, at)
      return true
    },
    read: (bytes, at) => Number(read(bytes, at)),
  }
}

const elements: ReadonlyMap<string, Element> = new Map([
  [
    'FP32',
    {
      sizeBytes: 4,
      write(bytes: Buffer, at: number, value: number | bigint) {
        const number = Number(value)
        // Rounding is what the model was trained with; turning into infinity is not.
        if (Number.isFinite(number) && !Number.isFinite(Math.fround(number))) return false
        bytes.writeFloatLE(number, at)
        return true
      },
      read: (bytes: Buffer, at: number) => bytes.readFloatLE(at),
    },
  ],
  [
    'FP64',
    {
      sizeBytes: 8,
      write(bytes: Buffer, at: number, value: number | bigint) {
        bytes.writeDoubleLE(Number(value), at)
        return true
      },
      read: (bytes: Buffer, at: number) => bytes.readDoubleLE(at),
    },
  ],
  [
    'BOOL',
    integer(
      1,
      0,
      1,
      (bytes, value, at) => bytes.writeUInt8(value, at),
      (bytes, at) => bytes.readUInt8(at),
    ),
  ],
  [
    'INT8',
    integer(
      1,
      -128,
      127,
      (bytes, value, at) => bytes.writeInt8(value, at),
      (bytes, at) => bytes.readInt8(at),
    ),
  ],
  [
    'UINT8',
    integer(
      1,
      0,
      255,
      (bytes, value, at) => bytes.writeUInt8(value, at),
      (bytes, at) => bytes.readUInt8(at),
    ),
  ],
  [
    'INT16',
    integer(
      2,
      -(2 ** 15),
      2 ** 15 - 1,
      (bytes, value, at) => bytes.writeInt16LE(value, at),
      (bytes, at) => bytes.readInt16LE(at),
    ),
  ],
  [
    'UINT16',
    integer(
      2,
      0,
      2 ** 16 - 1,
      (bytes, value, at) => bytes.writeUInt16LE(value, at),
      (bytes, at) => bytes.readUInt16LE(at),
    ),
  ],
  [
    'INT32',
    integer(
      4,
      -(2 ** 31),
      2 ** 31 - 1,
      (bytes, value, at) => bytes.writeInt32LE(value, at),
      (bytes, at) => bytes.readInt32LE(at),
    ),
  ],
  [
    'UINT32',
    integer(
      4,
      0,
      2 ** 32 - 1,
      (bytes, value, at) => bytes.writeUInt32LE(value, at),
      (bytes, at) => bytes.readUInt32LE(at),
    ),
  ],
  [
    'INT64',
    wideInteger(
      -(2n ** 63n),
      2n ** 63n - 1n,
      (bytes, value, at) => bytes.writeBigInt64LE(value, at),
      (bytes, at) => bytes.readBigInt64LE(at),
    ),
  ],
  [
    'UINT64',
    wideInteger(
      0n,
      2n ** 64n - 1n,
      (bytes, value, at) => bytes.writeBigUInt64LE(value, at),
      (bytes, at) => bytes.readBigUInt64LE(at),
    ),
  ],
])
