import { create } from '@bufbuild/protobuf'
import { type Duration, type Timestamp, TimestampSchema } from '@bufbuild/protobuf/wkt'

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

/** Whether a wire timestamp lies in the years 1 to 9999, as its definition asks. */
export function isValidTimestamp(time: Timestamp): boolean {
  return time.seconds >= -62_135_596_800n && time.seconds <= 253_402_300_799n && time.nanos >= 0 && time.nanos < 1e9
}

/** Gives the time in microseconds since the epoch. */
export type Clock = () => bigint

/** The clock of the system; it never goes back while the process lives, so that what was written can be read. */
export function systemClock(): Clock {
  let last = 0n
  return () => {
    const now = BigInt(Date.now()) * 1000n
    if (now > last) last = now
    return last
  }
}
