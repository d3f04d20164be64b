/** The clock: microseconds since the epoch. */
export function nowMicros(): bigint {
  return BigInt(Date.now()) * 1000n
}
