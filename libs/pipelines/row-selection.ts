/**
 * Parts of tensors by their rows: taken out for a step that not all rows go through, and put together again. A request may have
 * so many rows that this takes a while: it is done piece by piece, each `next` of the generator one of them.
 */
import { type Datatype, datatypeBytes } from '@slipway/onnx'
import type { Tensor } from './tensor.ts'

const ROWS_OF_PIECE = 2048

/** The rows of a tensor with these positions, in this order. */
export function* selectRows(tensor: Tensor, positions: readonly number[]): Generator<void, Tensor> {
  const pieces = yield* rowBytes(tensor)
  const chosen: Buffer[] = []
  for (const position of positions) {
    chosen.push(pieces(position))
    if (chosen.length % ROWS_OF_PIECE === 0) yield
  }
  return { ...tensor, shape: [positions.length, ...tensor.shape.slice(1)], bytes: Buffer.concat(chosen) }
}

/** Rows that go to the positions named with them. */
export interface PlacedRows {
  readonly tensor: Tensor
  readonly positions: readonly number[]
}

/** The tensor whose rows are those of several, each at its position; together they fill it. */
export function* placeRows(parts: readonly PlacedRows[]): Generator<void, Tensor> {
  const rows: Buffer[] = []
  for (const { tensor, positions } of parts) {
    const pieces = yield* rowBytes(tensor)
    for (const [index, position] of positions.entries()) {
      rows[position] = pieces(index)
      if (index % ROWS_OF_PIECE === ROWS_OF_PIECE - 1) yield
    }
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

function* rowBytes({ datatype, shape, bytes }: Tensor): Generator<void, (row: number) => Buffer> {
  const elements = shape.slice(1).reduce((product, size) => product * size, 1)
  if (datatype !== 'BYTES') {
    const width = elements * datatypeBytes(datatype)
    return (row) => bytes.subarray(row * width, (row + 1) * width)
  }
  const starts = [0]
  for (let at = 0, row = 0; row < (shape[0] ?? 0); row++) {
    for (let element = 0; element < elements; element++) at += 4 + bytes.readUInt32LE(at)
    starts.push(at)
    if (row % ROWS_OF_PIECE === ROWS_OF_PIECE - 1) yield
  }
  return (row) => bytes.subarray(starts[row], starts[row + 1])
}
