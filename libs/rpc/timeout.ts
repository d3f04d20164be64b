/** The longest delay that a timer of Node.js takes; a longer one would fire at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1
/** Longest `grpc-timeout` that is kept or told to a peer, in whole seconds: some 24 days. */
export const MAX_TIMEOUT_MS = 2_147_483_000

const unitsMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 }

/** Milliseconds that a `grpc-timeout` header stands for, at most MAX_TIMEOUT_MS; undefined when it is malformed. */
export function parseTimeout(header: string): number | undefined {
  const match = /^(\d{1,8})([HMSmun])$/.exec(header)
  const unit = unitsMs[match?.[2] ?? '']
  if (match === null || unit === undefined) return undefined
  return Math.min(Number(match[1]) * unit, MAX_TIMEOUT_MS)
}

/** A `grpc-timeout` header for this many milliseconds, rounded up; at most eight digits, as the protocol asks. */
export function formatTimeout(timeoutMs: number): string {
  const ms = Math.ceil(Math.min(Math.max(timeoutMs, 0), MAX_TIMEOUT_MS))
  return ms < 1e8 ? `${ms}m` : `${Math.ceil(ms / 1000)}S`
}
