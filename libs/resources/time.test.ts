import { create } from '@bufbuild/protobuf'
import { DurationSchema, TimestampSchema, timestampDate } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { durationFromMicros, microsFromDuration, microsFromTimestamp, timestampFromMicros } from './index.ts'

const timestamp = (seconds: bigint, nanos: number) => create(TimestampSchema, { seconds, nanos })
const duration = (seconds: bigint, nanos: number) => create(DurationSchema, { seconds, nanos })

test('microseconds come back from a timestamp, before the epoch too, and its nanos are never negative', () => {
  const yearOne = -62_135_596_800_000_000n
  const yearTenThousand = 253_402_300_800_000_000n
  fc.assert(
    fc.property(fc.bigInt({ min: yearOne, max: yearTenThousand - 1n }), (micros) => {
      const time = timestampFromMicros(micros)
      expect(microsFromTimestamp(time)).toBe(micros)
      expect(time.nanos).toBeGreaterThanOrEqual(0)
      expect(time.nanos).toBeLessThan(1_000_000_000)
    }),
  )
})

test('microseconds come back from a duration, whose parts have one sign', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(10n ** 17n), max: 10n ** 17n }), (micros) => {
      const { seconds, nanos } = durationFromMicros(micros)
      expect(microsFromDuration(duration(seconds, nanos))).toBe(micros)
      expect(Number(seconds) * nanos).toBeGreaterThanOrEqual(0)
    }),
  )
})

test('a timestamp is the moment that a date is', () => {
  expect(timestampDate(timestampFromMicros(-1_000n)).toISOString()).toBe('1969-12-31T23:59:59.999Z')
  expect(timestampDate(timestampFromMicros(978_307_200_000_000n)).toISOString()).toBe('2001-01-01T00:00:00.000Z')
})

test('what is finer than a microsecond is rounded down', () => {
  expect(microsFromTimestamp(timestamp(1n, 1_999))).toBe(1_000_001n)
  expect(microsFromTimestamp(timestamp(-1n, 999))).toBe(-1_000_000n)
  expect(microsFromDuration(duration(2n, 1_999))).toBe(2_000_001n)
  expect(microsFromDuration(duration(0n, -1))).toBe(-1n)
})
