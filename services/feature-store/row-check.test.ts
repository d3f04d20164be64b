import { create } from '@bufbuild/protobuf'
import { TimestampSchema } from '@bufbuild/protobuf/wkt'
import { FeatureRowSchema, ValueType } from '@slipway/proto/slipway/features/v1/value'
import { microsFromTimestamp, timestampFromMicros } from '@slipway/resources'
import { expect, test } from 'vitest'
import { unpackValues } from './packing.ts'
import { checkRow, maxClockSkewMicros } from './row-check.ts'
import { type RowInit, value } from './store.fixture.ts'
import type { ViewVersion } from './view.ts'

const view: ViewVersion = {
  tableId: 1,
  id: 'pairs',
  digest: '',
  keys: [
    { name: 'a', type: ValueType.INT64 },
    { name: 'b', type: ValueType.INT64 },
  ],
  features: [
    { name: 'x', type: ValueType.DOUBLE },
    { name: 'y', type: ValueType.STRING },
  ],
  ttlMicros: undefined,
}
const now = 1_000_000_000_000_000n

const check = (change: RowInit) =>
  checkRow(
    view,
    create(FeatureRowSchema, {
      entityKeys: { a: value.int64(1n), b: value.int64(23n) },
      eventTime: timestampFromMicros(now),
      ...change,
    }),
    now,
  )

test('a row keeps its times to the microsecond, before 1970 too, and rounds down', () => {
  const eventTime = create(TimestampSchema, { seconds: -1n, nanos: 999_999_999 })
  const createdTime = timestampFromMicros(-3n)
  expect(check({ eventTime, createdTime, sequence: -5n })).toMatchObject({
    row: { eventMicros: -1n, createdMicros: -3n, sequence: -5n, deleted: false },
  })
  for (const micros of [0n, -1n, 1n, -1_000_001n, 253_402_300_799_999_999n, -62_135_596_800_000_000n]) {
    expect(microsFromTimestamp(timestampFromMicros(micros))).toBe(micros)
  }
})

test('what a producer does not say is left to the store', () => {
  expect(check({})).toMatchObject({ row: { createdMicros: undefined, sequence: undefined } })
})

test('a feature that is not named is null', () => {
  const checked = check({ values: { y: value.text('z') } })
  expect('row' in checked && unpackValues(checked.row.payload, 2)).toEqual([null, 'z'])
})

test('keys are packed in the order of the view, each with its length', () => {
  const one = check({ entityKeys: { b: value.int64(23n), a: value.int64(1n) } })
  const other = check({ entityKeys: { a: value.int64(12n), b: value.int64(3n) } })
  expect('row' in one && unpackValues(one.row.key, 2)).toEqual([1n, 23n])
  expect('row' in other && unpackValues(other.row.key, 2)).toEqual([12n, 3n])
})

test.each<[string, RowInit, string, string]>([
  ['no event time', { eventTime: undefined as never }, 'event_time', 'REQUIRED'],
  [
    'an event time before the year 1',
    { eventTime: timestampFromMicros(-62_135_596_800_000_001n) },
    'event_time',
    'OUT_OF_RANGE',
  ],
  [
    'a created time with wrong nanoseconds',
    { createdTime: { seconds: 0n, nanos: -1 } },
    'created_time',
    'OUT_OF_RANGE',
  ],
  [
    'a created time in the future',
    { createdTime: timestampFromMicros(now + maxClockSkewMicros + 1n) },
    'created_time',
    'CREATED_IN_FUTURE',
  ],
  ['no key', { entityKeys: { a: value.int64(1n) } }, 'entity_keys.b', 'NULL_KEY'],
  ['a key of another type', { entityKeys: { a: value.text('1'), b: value.int64(1n) } }, 'entity_keys.a', 'WRONG_TYPE'],
  [
    'a key that the view does not have',
    { entityKeys: { a: value.int64(1n), b: value.int64(1n), c: value.int64(1n) } },
    'entity_keys.c',
    'UNKNOWN_NAME',
  ],
  ['a feature that the view does not have', { values: { z: value.double(1) } }, 'values.z', 'UNKNOWN_NAME'],
  ['a value of another type', { values: { x: value.text('1') } }, 'values.x', 'WRONG_TYPE'],
  ['an integer that is no double', { values: { x: value.int64(2n ** 53n + 1n) } }, 'values.x', 'LOSSY_CAST'],
  ['a deleted entity with values', { deleted: true, values: { x: value.double(1) } }, 'values.x', 'WRONG_TYPE'],
])('a row with %s is refused with its field', (_, change, field, code) => {
  expect(check(change)).toMatchObject({ problem: { field, code } })
})

test('a created time that a clock a little ahead gave is taken', () => {
  expect('row' in check({ createdTime: timestampFromMicros(now + maxClockSkewMicros) })).toBe(true)
})
