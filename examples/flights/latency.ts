/** Latencies of calls in microseconds, kept in buckets 2 % wide: constant memory, any number of calls. */

const growth = 1.02
const logGrowth = Math.log(growth)

/** Counts latencies and reads quantiles. */
export interface LatencyRecorder {
  record(latencyMs: number): void
  /** The latency in milliseconds that a share of the calls, 0 to 1, did not exceed; 0 while there are none. */
  quantileMs(share: number): number
}

/** An empty recorder. */
export function createLatencyRecorder(): LatencyRecorder {
  const counts: number[] = []
  let total = 0
  return {
    record(latencyMs) {
      const bucket = Math.max(0, Math.ceil(Math.log(Math.max(latencyMs * 1000, 1)) / logGrowth))
      counts[bucket] = (counts[bucket] ?? 0) + 1
      total++
    },
    quantileMs(share) {
      let seen = 0
      for (const [bucket, count] of counts.entries()) {
        seen += count ?? 0
        if (seen > 0 && seen >= share * total) return growth ** bucket / 1000
      }
      return 0
    },
  }
}
