import { type CelInput, celList, celUint } from '@bufbuild/cel'
import type { Datatype } from '@slipway/onnx'
import { describe, expect, test } from 'vitest'
import { fromHalf, toHalf } from './half.ts'
import { placeRows, selectRows, zeroRows } from './row-selection.ts'
import { rowsOf, type Tensor, TensorBuilder } from './tensor.ts'

type Value = Parameters<TensorBuilder['add']>[0]

function build(datatype: Datatype, shape: readonly number[], values: readonly unknown[]): Tensor {
  const builder = new TensorBuilder(datatype, shape, values.length)
  for (const value of values) builder.add(value as Value)
  return builder.build()
}

function readAll(tensor: Tensor): unknown[] {
  const rows = rowsOf(tensor)
  return Array.from({ length: tensor.shape[0] ?? 0 }, (_, row) => rows.read(row))
}

const cases: readonly [Datatype, readonly unknown[], string][] = [
  ['BOOL', [true, false], '0100'],
  ['INT8', [-128n, 127n], '807f'],
  ['INT16', [-2n, 300n], 'feff2c01'],
  ['INT32', [-1n, 65536n], 'ffffffff00000100'],
  ['INT64', [-1n, 2n ** 40n], 'ffffffffffffffff0000000000010000'],
  ['UINT8', [celUint(255n), celUint(0n)], 'ff00'],
  ['UINT16', [celUint(65535n), celUint(1n)], 'ffff0100'],
  ['UINT32', [celUint(2n ** 32n - 1n), celUint(2n)], 'ffffffff02000000'],
  ['UINT64', [celUint(2n ** 64n - 1n), celUint(3n)], 'ffffffffffffffff0300000000000000'],
  ['FP16', [1.5, -2], '003e00c0'],
  ['FP32', [0.25, -1], '0000803e000080bf'],
  ['FP64', [0.1, 1e300], '9a9999999999b93f9c7500883ce4377e'],
  ['BYTES', ['Zürich', ''], '070000005ac3bc7269636800000000'],
]

describe('values become tensors and tensors values', () => {
  test.each(cases)('%s', (datatype, values, hex) => {
    const tensor = build(datatype, [-1], values)
    expect(tensor.bytes.toString('hex')).toBe(hex)
    expect(tensor.shape).toEqual([2])
    expect(readAll(tensor)).toEqual(values)
  })

  test('dimensions after the first are lists, and those that are open are those of the first row', () => {
    const nested = build(
      'FP32',
      [-1, 2, -1],
      [
        [
          [1, 2, 3],
          [4, 5, 6],
        ],
      ].map((row) => list(row)),
    )
    expect(nested.shape).toEqual([1, 2, 3])
    expect(readAll(nested)).toEqual([
      [
        [1, 2, 3],
        [4, 5, 6],
      ],
    ])
    const texts = build('BYTES', [-1, 2], [list(['a', 'bc']), list(['', 'd'])])
    expect(readAll(texts)).toEqual([
      ['a', 'bc'],
      ['', 'd'],
    ])
    expect(rowsOf(texts).size).toEqual({ size: 2, element: { size: 2 } })
  })

  test('one value fills a row of one element, whatever its dimensions', () => {
    expect(build('FP32', [-1, 1], [1, 2]).shape).toEqual([2, 1])
  })

  test('a tensor without dimensions has the same value in every row', () => {
    const scalar = rowsOf({ datatype: 'FP32', shape: [], bytes: Buffer.from(Float32Array.of(3).buffer) })
    expect([scalar.count, scalar.read(0)]).toEqual([undefined, 3])
  })

  test('no rows make a tensor of no rows', () => {
    expect(build('FP32', [-1, 3], [])).toMatchObject({ shape: [0, 3], bytes: Buffer.alloc(0) })
  })

  test('tensors are read where they lie, at any offset', () => {
    const bytes = Buffer.concat([Buffer.of(9), Buffer.from(Float64Array.of(1, 2).buffer)]).subarray(1)
    expect(readAll({ datatype: 'FP64', shape: [2], bytes })).toEqual([1, 2])
  })
})

describe('what does not fit is refused', () => {
  const refused: readonly [Datatype, readonly number[], unknown, string][] = [
    ['INT8', [-1], 128n, 'does not fit (-128 to 127)'],
    ['UINT8', [-1], -1n, 'does not fit (0 to 255)'],
    ['INT64', [-1], celUint(2n ** 63n), 'does not fit'],
    ['INT32', [-1], 1.5, 'not a whole number'],
    ['FP32', [-1], 1n, 'not a number'],
    ['BOOL', [-1], 1n, 'not a bool'],
    ['BYTES', [-1], 'a\0b', 'NUL'],
    ['FP32', [-1, 3], list([1, 2]), 'a list of 2 where the shape needs 3'],
    ['FP32', [-1, 2], 1, 'one value where the shape needs a list of 2'],
  ]
  test.each(refused)('%s %j', (datatype, shape, value, problem) => {
    expect(() => build(datatype, shape, [value])).toThrow(problem)
  })

  test('a row that is longer than the first', () => {
    expect(() => build('FP32', [-1, -1], [list([1]), list([1, 2])])).toThrow('a list of 2 where the shape needs 1')
  })
})

test('half-precision numbers: every one comes back, others become the nearest even', () => {
  for (let bits = 0; bits < 0x7c00; bits++) expect(toHalf(fromHalf(bits))).toBe(bits)
  expect(
    [65520, 65519, 1e-9, 2 ** -25 * 1.01, 1 + 2 ** -11, 1 + 3 * 2 ** -11, Number.POSITIVE_INFINITY].map(toHalf),
  ).toEqual([0x7c00, 0x7bff, 0, 1, 0x3c00, 0x3c02, 0x7c00])
  expect(toHalf(-0)).toBe(0x8000)
  expect(fromHalf(toHalf(Number.NaN))).toBeNaN()
})

test('rows are taken out and put back where they were, piece by piece', () => {
  const texts = build('BYTES', [-1], ['a', 'bb', 'ccc', 'd'])
  const [some] = finish(selectRows(texts, [2, 0]))
  expect(readAll(some)).toEqual(['ccc', 'a'])
  const [whole] = finish(
    placeRows([
      { tensor: some, positions: [2, 0] },
      { tensor: zeroRows('BYTES', [-1], 2), positions: [1, 3] },
    ]),
  )
  expect(readAll(whole)).toEqual(['a', '', 'ccc', ''])
  const numbers = build('FP32', [-1, 2], [list([1, 2]), list([3, 4])])
  expect(readAll(finish(selectRows(numbers, [1]))[0])).toEqual([[3, 4]])
  const [, pieces] = finish(selectRows(texts, Array(10_000).fill(1)))
  expect(pieces).toBeGreaterThan(3)
})

function finish<T>(generator: Generator<void, T>): [T, number] {
  for (let pieces = 0; ; pieces++) {
    const { done, value } = generator.next()
    if (done) return [value, pieces]
  }
}

function list(values: readonly unknown[]): unknown {
  return celList(values as readonly CelInput[])
}
