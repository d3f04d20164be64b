import { create } from '@bufbuild/protobuf'
import { type Duration, DurationSchema, type Timestamp, TimestampSchema } from '@bufbuild/protobuf/wkt'

/** A wire timestamp from microseconds since the epoch. */
export function timestampFromMicros(micros: bigint): Timestamp {
  const seconds = micros >= 0n ? micros / 1_000_000n : (micros - 999_999n) / 1_000_000n
  return create(TimestampSchema, { seconds, nanos: Number(micros - seconds * 1_000_000n) * 1000 })
}

/** Microseconds since the epoch of a wire timestamp, rounded down. */
export function microsFromTimestamp(time: Timestamp): bigint {
  return time.seconds * 1_000_000n + BigInt(Math.floor(time.nanos / 1000))
}

/** Microseconds of a wire duration, rounded down. */
export function microsFromDuration(duration: Duration): bigint {
  return duration.seconds * 1_000_000n + BigInt(Math.floor(duration.nanos / 1000))
}

/** A wire duration from microseconds. */
export function durationFromMicros(micros: bigint): Duration {
  return create(DurationSchema, { seconds: micros / 1_000_000n, nanos: Number(micros % 1_000_000n) * 1000 })
}
