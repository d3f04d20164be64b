import { expect, test } from 'vitest'
import { readColumn, rowOffsets } from './tensors.ts'

const float32 = (...values: number[]) => new Uint8Array(new Float32Array(values).buffer)
const half = (...bits: number[]) => new Uint8Array(new Uint16Array(bits).buffer)

test('a column is read from every row', () => {
  const form = { datatype: 'FP32', shape: [3n, 2n] }
  expect(readColumn(form, float32(1, 2, 3, 4, 5, 6), 1)).toEqual(Float64Array.of(2, 4, 6))
})

test.each([
  ['BOOL', new Uint8Array([0, 2]), [0, 1]],
  ['INT8', new Uint8Array([255, 1]), [-1, 1]],
  ['UINT8', new Uint8Array([255, 1]), [255, 1]],
  ['INT64', new Uint8Array(new BigInt64Array([-5n, 7n]).buffer), [-5, 7]],
  ['FP64', new Uint8Array(new Float64Array([0.1, -0.5]).buffer), [0.1, -0.5]],
  ['FP16', half(0x3c00, 0xc000), [1, -2]],
  ['FP16', half(0x0001, 0x7c00), [2 ** -24, Number.POSITIVE_INFINITY]],
  ['BF16', half(0x3f80, 0xc000), [1, -2]],
])('%s is read as numbers', (datatype, raw, expected) => {
  expect([...(readColumn({ datatype, shape: [2n] }, raw, 0) ?? [])]).toEqual(expected)
})

test('bytes that are too few, too many, or text have no columns', () => {
  expect(readColumn({ datatype: 'FP32', shape: [2n] }, float32(1), 0)).toBeUndefined()
  expect(readColumn({ datatype: 'FP32', shape: [1n] }, float32(1, 2), 0)).toBeUndefined()
  expect(readColumn({ datatype: 'FP32', shape: [1n, 2n] }, float32(1, 2), 2)).toBeUndefined()
  expect(readColumn({ datatype: 'BYTES', shape: [1n] }, new Uint8Array(4), 0)).toBeUndefined()
})

test('rows of text start where the texts before them end', () => {
  const raw = new Uint8Array([1, 0, 0, 0, 65, 0, 0, 0, 0, 2, 0, 0, 0, 66, 67, 1, 0, 0, 0, 68])
  expect(rowOffsets({ datatype: 'BYTES', shape: [2n, 2n] }, raw)).toEqual([0, 9, 20])
  expect(rowOffsets({ datatype: 'BYTES', shape: [2n, 2n] }, raw.subarray(0, 19))).toBeUndefined()
  expect(rowOffsets({ datatype: 'BYTES', shape: [1n, 2n] }, raw)).toBeUndefined()
})
