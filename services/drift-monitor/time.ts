import { create } from '@bufbuild/protobuf'
import { type Duration, DurationSchema, type Timestamp } from '@bufbuild/protobuf/wkt'
import { microsFromDuration, microsFromTimestamp, timestampFromMicros } from '@slipway/resources'

/** Microseconds in an hour: counts are kept by the hour of event time. */
export const HOUR_MICROS = 3_600_000_000n

/** Microseconds since the epoch, rounded down; 0 when unset. */
export function microsOfTimestamp(time: Timestamp | undefined): bigint {
  return time === undefined ? 0n : microsFromTimestamp(time)
}

/** Microseconds of a duration; 0 when unset. */
export function microsOfDuration(duration: Duration | undefined): bigint {
  return duration === undefined ? 0n : microsFromDuration(duration)
}

/** A wire duration of whole hours. */
export function durationOfHours(hours: number): Duration {
  return create(DurationSchema, { seconds: BigInt(hours) * 3600n })
}

/** A wire timestamp from hours since the epoch. */
export function timestampOfHour(hour: number): Timestamp {
  return timestampFromMicros(BigInt(hour) * HOUR_MICROS)
}

/** Hours since the epoch, rounded down, of microseconds since the epoch. */
export function hourOf(micros: bigint): number {
  return Math.floor(Number(micros) / Number(HOUR_MICROS))
}
