import type { Timestamp } from '@bufbuild/protobuf/wkt'

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
