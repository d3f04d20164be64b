import { create } from '@bufbuild/protobuf'
import { type Value, ValueSchema, ValueType } from '@slipway/proto/slipway/features/v1/value'
import { expect, test } from 'vitest'
import { packValues, unpackValues } from './packing.ts'
import { value } from './store.fixture.ts'
import { checkKey, checkValue, type FeatureValue, maxValueBytes } from './values.ts'

const nothing = create(ValueSchema)

test.each([
  ['an int64 beyond 2^53', value.int64(2n ** 53n + 1n), ValueType.INT64, 2n ** 53n + 1n],
  ['the smallest int64', value.int64(-(2n ** 63n)), ValueType.INT64, -(2n ** 63n)],
  ['an integer where a double is expected', value.int64(3n), ValueType.DOUBLE, 3],
  ['2^53 where a double is expected', value.int64(2n ** 53n), ValueType.DOUBLE, 2 ** 53],
  ['-2^53 where a double is expected', value.int64(-(2n ** 53n)), ValueType.DOUBLE, -(2 ** 53)],
  ['NaN', value.double(Number.NaN), ValueType.DOUBLE, Number.NaN],
  ['Infinity', value.double(Number.POSITIVE_INFINITY), ValueType.DOUBLE, Number.POSITIVE_INFINITY],
  ['a float32 in a double', value.double(Math.fround(0.1)), ValueType.DOUBLE, Math.fround(0.1)],
  ['a time before 1970, to the microsecond', value.time(-1n), ValueType.TIMESTAMP, -1n],
  ['the empty text, which is not null', value.text(''), ValueType.STRING, ''],
  ['no bytes, which is not null', value.bytes(new Uint8Array()), ValueType.BYTES, new Uint8Array()],
  ['false', value.bool(false), ValueType.BOOL, false],
  ['null, of any type', nothing, ValueType.INT64, null],
  [
    'a text of the greatest length',
    value.text('é'.repeat(maxValueBytes / 2)),
    ValueType.STRING,
    'é'.repeat(maxValueBytes / 2),
  ],
])('%s is taken as it is', (_, message, type, taken) => {
  expect(checkValue(message, type)).toEqual({ value: taken })
})

test.each([
  ['2^53 + 1 where a double is expected', value.int64(2n ** 53n + 1n), ValueType.DOUBLE, 'LOSSY_CAST'],
  ['-2^53 - 1 where a double is expected', value.int64(-(2n ** 53n) - 1n), ValueType.DOUBLE, 'LOSSY_CAST'],
  ['a whole double where an int64 is expected', value.double(3), ValueType.INT64, 'WRONG_TYPE'],
  ['text that looks like a number', value.text('3'), ValueType.INT64, 'WRONG_TYPE'],
  ['a number where text is expected', value.int64(3n), ValueType.STRING, 'WRONG_TYPE'],
  ['0 where a bool is expected', value.int64(0n), ValueType.BOOL, 'WRONG_TYPE'],
  ['text where bytes are expected', value.text('x'), ValueType.BYTES, 'WRONG_TYPE'],
  ['seconds where a time is expected', value.int64(0n), ValueType.TIMESTAMP, 'WRONG_TYPE'],
  ['a time after the year 9999', value.time(253_402_300_800_000_000n), ValueType.TIMESTAMP, 'OUT_OF_RANGE'],
  ['text that is too long in bytes only', value.text('é'.repeat(maxValueBytes / 2 + 1)), ValueType.STRING, 'TOO_LONG'],
  ['text that is too long', value.text('x'.repeat(maxValueBytes + 1)), ValueType.STRING, 'TOO_LONG'],
  ['too many bytes', value.bytes(new Uint8Array(maxValueBytes + 1)), ValueType.BYTES, 'TOO_LONG'],
])('%s is refused', (_, message, type, code) => {
  expect(checkValue(message, type)).toMatchObject({ problem: { code } })
})

test('a key is never null', () => {
  expect(checkKey(nothing, ValueType.INT64)).toMatchObject({ problem: { code: 'NULL_KEY' } })
  expect(checkKey(undefined, ValueType.STRING)).toMatchObject({ problem: { code: 'NULL_KEY' } })
  expect(checkKey(value.text(''), ValueType.STRING)).toEqual({ value: '' })
})

test.each<[string, FeatureValue[]]>([
  ['nothing', []],
  ['nulls between values', [null, 1.5, null, 'x']],
  ['integers of all sizes', [0n, -1n, 2n ** 53n + 1n, 2n ** 63n - 1n, -(2n ** 63n)]],
  ['numbers that are not finite', [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]],
  ['the smallest and the largest doubles', [5e-324, Number.MAX_VALUE]],
  ['text beyond ASCII, empty text and NUL', ['Zürich ✈ 🛫', '', '\0']],
  ['truth', [true, false]],
  ['bytes', [new Uint8Array(), new Uint8Array([0, 255])]],
  ['more than the scratch space holds', ['x'.repeat(60_000), 'y'.repeat(60_000)]],
])('packing keeps %s', (_, values) => {
  const read = unpackValues(packValues(values), values.length)
  expect(read.map((each) => (each instanceof Uint8Array ? new Uint8Array(each) : each))).toEqual(values)
})

test('values behind the end are null, and values of newer versions are passed over', () => {
  const packed = packValues([1n, 'x', null, null])
  expect(packed).toEqual(packValues([1n, 'x']))
  expect(unpackValues(packed, 4)).toEqual([1n, 'x', null, null])
  expect(unpackValues(packed, 1)).toEqual([1n])
})

test('no two keys have one packing', () => {
  const keys: FeatureValue[][] = [
    [1n, 23n],
    [12n, 3n],
    [123n],
    ['1', '23'],
    ['12', '3'],
    ['123'],
    ['a', ''],
    ['', 'a'],
    [true],
    [false],
    [new Uint8Array([97])],
    ['a'],
    [1],
    [1n],
  ]
  expect(new Set(keys.map((key) => Buffer.from(packValues(key)).toString('hex'))).size).toBe(keys.length)
})

test('0 and -0 are one value, as they are in a training set', () => {
  expect(packValues([-0])).toEqual(packValues([0]))
})

test('bytes that nothing packed are not read as values', () => {
  expect(() => unpackValues(new Uint8Array([9]), 1)).toThrow(RangeError)
})

test('a value of each type fits one type only', () => {
  const values: [ValueType, Value][] = [
    [ValueType.BOOL, value.bool(true)],
    [ValueType.DOUBLE, value.double(1)],
    [ValueType.STRING, value.text('x')],
    [ValueType.BYTES, value.bytes(new Uint8Array(1))],
    [ValueType.TIMESTAMP, value.time(0n)],
  ]
  for (const [own, message] of values) {
    for (const [type] of values) expect('value' in checkValue(message, type)).toBe(type === own)
  }
})
