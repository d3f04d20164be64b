import { create } from '@bufbuild/protobuf'
import { type Duration, DurationSchema, type Timestamp, TimestampSchema } from '@bufbuild/protobuf/wkt'

/** Microseconds in an hour: counts are kept by the hour of event time. */
export const HOUR_MICROS = 3_600_000_000n

/** Microseconds since the epoch, rounded down; 0 when unset. */
export function microsOfTimestamp(time: Timestamp | undefined): bigint {
  return time === undefined ? 0n : time.seconds * 1_000_000n + BigInt(Math.floor(time.nanos / 1000))
}

/** A wire timestamp from microseconds since the epoch. */
export function timestampOf(micros: bigint): Timestamp {
  const seconds = micros >= 0n ? micros / 1_000_000n : (micros - 999_999n) / 1_000_000n
  return create(TimestampSchema, { seconds, nanos: Number(micros - seconds * 1_000_000n) * 1000 })
}

/** Microseconds of a duration; 0 when unset. */
export function microsOfDuration(duration: Duration | undefined): bigint {
  return duration === undefined ? 0n : duration.seconds * 1_000_000n + BigInt(Math.floor(duration.nanos / 1000))
}

/** A wire duration of whole hours. */
export function durationOfHours(hours: number): Duration {
  return create(DurationSchema, { seconds: BigInt(hours) * 3600n })
}

/** A wire timestamp from hours since the epoch. */
export function timestampOfHour(hour: number): Timestamp {
  return timestampOf(BigInt(hour) * HOUR_MICROS)
}

/** Hours since the epoch, rounded down, of microseconds since the epoch. */
export function hourOf(micros: bigint): number {
  return Math.floor(Number(micros) / Number(HOUR_MICROS))
}
