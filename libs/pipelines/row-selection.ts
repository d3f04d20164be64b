/** Parts of tensors by their rows: taken out for a step that not all rows go through, and put together again. */
import { type Datatype, datatypeBytes } from '@slipway/onnx'
import type { Tensor } from './tensor.ts'

/** The rows of a tensor with these positions, in this order. */
export function selectRows(tensor: Tensor, positions: readonly number[]): Tensor {
  const pieces = rowBytes(tensor)
  const bytes = Buffer.concat(positions.map((position) => pieces(position)))
  return { ...tensor, shape: [positions.length, ...tensor.shape.slice(1)], bytes }
}

/** Rows that go to the positions named with them. */
export interface PlacedRows {
  readonly tensor: Tensor
  readonly positions: readonly number[]
}

/** The tensor whose rows are those of several, each at its position; together they fill it. */
export function placeRows(parts: readonly PlacedRows[]): Tensor {
  const rows: Buffer[] = []
  for (const { tensor, positions } of parts) {
    const pieces = rowBytes(tensor)
    for (const [index, position] of positions.entries()) rows[position] = pieces(index)
  }
  const [first] = parts
  if (first === undefined) throw new RangeError('a tensor of no parts')
  return { ...first.tensor, shape: [rows.length, ...first.tensor.shape.slice(1)], bytes: Buffer.concat(rows) }
}

/** Rows of 0, false or the empty string. */
export function zeroRows(datatype: Datatype, shape: readonly number[], rows: number): Tensor {
  const dims = [rows, ...shape.slice(1)]
  const count = dims.reduce((product, size) => product * size, 1)
  return { datatype, shape: dims, bytes: Buffer.alloc(count * (datatype === 'BYTES' ? 4 : datatypeBytes(datatype))) }
}

function rowBytes({ datatype, shape, bytes }: Tensor): (row: number) => Buffer {
  const elements = shape.slice(1).reduce((product, size) => product * size, 1)
  if (datatype !== 'BYTES') {
    const width = elements * datatypeBytes(datatype)
    return (row) => bytes.subarray(row * width, (row + 1) * width)
  }
  const starts = [0]
  for (let at = 0, row = 0; row < (shape[0] ?? 0); row++) {
    for (let element = 0; element < elements; element++) at += 4 + bytes.readUInt32LE(at)
    starts.push(at)
  }
  return (row) => bytes.subarray(starts[row], starts[row + 1])
}
