import type { Datatype } from '@slipway/onnx'
import { expect, test } from 'vitest'
import { firstDifference } from './tensor-difference.ts'

const fp32 = (...values: number[]) => Buffer.from(Float32Array.from(values).buffer)
const fp64 = (...values: number[]) => Buffer.from(Float64Array.from(values).buffer)
const int64 = (...values: bigint[]) => Buffer.from(BigInt64Array.from(values).buffer)
const fp16 = (...bits: number[]) => Buffer.from(Uint16Array.from(bits).buffer)
const texts = (...values: string[]) =>
  Buffer.concat(
    values.map((value) => {
      const length = Buffer.alloc(4)
      length.writeUInt32LE(Buffer.byteLength(value))
      return Buffer.concat([length, Buffer.from(value)])
    }),
  )

test.each<[string, Datatype, Buffer, Buffer]>([
  ['equal', 'FP32', fp32(1, 2), fp32(1, 2)],
  ['a thousandth off', 'FP32', fp32(1000), fp32(1000.9)],
  ['close to nothing', 'FP32', fp32(0), fp32(0.000009)],
  ['NaN and NaN, infinity and itself', 'FP64', fp64(Number.NaN, -Infinity), fp64(Number.NaN, -Infinity)],
  ['zeros of either sign', 'FP32', fp32(0), fp32(-0)],
  ['half precision, a hundredth off', 'FP16', fp16(0x3c00), fp16(0x3c09)],
  ['bfloat, its last bit off', 'BF16', fp16(0x3f80), fp16(0x3f81)],
  ['integers', 'INT64', int64(1n, -(2n ** 62n)), int64(1n, -(2n ** 62n))],
  ['texts', 'BYTES', texts('a', '', 'ä'), texts('a', '', 'ä')],
  ['nothing', 'FP32', fp32(), fp32()],
])('%s: the same', (_, datatype, expected, given) => {
  expect(firstDifference(datatype, expected, given)).toBeUndefined()
})

test.each<[string, Datatype, Buffer, Buffer, number, number | undefined]>([
  ['off by more than a thousandth', 'FP32', fp32(0, 1000), fp32(0, 1002), 1, 2],
  ['NaN for a number', 'FP32', fp32(1), fp32(Number.NaN), 0, undefined],
  ['a number for NaN', 'FP32', fp32(1, Number.NaN), fp32(1, 1), 1, undefined],
  ['infinity of the other sign', 'FP64', fp64(Infinity), fp64(-Infinity), 0, undefined],
  ['a number for infinity', 'FP64', fp64(Infinity), fp64(1), 0, undefined],
  ['half precision, a tenth off', 'FP16', fp16(0x3c00), fp16(0x3c66), 0, 0.099609375],
  ['an integer off by one', 'INT64', int64(1n, 2n), int64(1n, 3n), 1, undefined],
  ['the second text', 'BYTES', texts('a', 'b'), texts('a', 'c'), 1, undefined],
  ['a text that is longer', 'BYTES', texts('a'), texts('ab'), 0, undefined],
  ['fewer elements', 'FP32', fp32(1, 2), fp32(1), 1, undefined],
])('%s: named by its place', (_, datatype, expected, given, index, difference) => {
  const found = firstDifference(datatype, expected, given)
  expect(found?.index).toBe(index)
  if (difference === undefined) expect(found?.difference).toBeUndefined()
  else expect(found?.difference).toBeCloseTo(difference, 9)
})

test('a stated tolerance holds instead of the usual one', () => {
  expect(firstDifference('FP32', fp32(1), fp32(1.4), { relative: 0.5 })).toBeUndefined()
  expect(firstDifference('FP32', fp32(1), fp32(1.0001), { relative: 0, absolute: 0 })).toMatchObject({ index: 0 })
  expect(firstDifference('INT64', int64(1n), int64(2n), { absolute: 5 })).toMatchObject({ index: 0 })
})
