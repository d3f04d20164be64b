/** Puts load on a version from inside the server and measures what comes of it. */
import { predict, type RawTensor } from '../local-predictions.ts'
import type { Servable } from '../servable.ts'
import type { Outcome, Trial } from './sweep.ts'

/** How a trial is made. */
export interface TryOptions {
  readonly trial: Trial
  readonly load: readonly (readonly RawTensor[])[]
  readonly measureMs: number
  readonly signal: AbortSignal
}

/** Share of the measured time that goes before it, to warm up. */
const WARM_UP_SHARE = 0.25
/** Most latencies that are kept; beyond it every one stands for several. */
const MAX_LATENCIES = 1_000_000

/** Runs one trial: so many callers that each wait for their answer before they ask again. */
export async function trySetting(version: Servable, options: TryOptions): Promise<Outcome> {
  const { trial, measureMs, signal } = options
  await closedLoop(version, options, measureMs * WARM_UP_SHARE)
  const cpuBefore = process.cpuUsage()
  const before = version.counts
  const begun = performance.now()
  const { latenciesMs, requests, rows, failed } = await closedLoop(version, options, measureMs)
  signal.throwIfAborted()
  const seconds = (performance.now() - begun) / 1000
  const { user, system } = process.cpuUsage(cpuBefore)
  const after = version.counts
  latenciesMs.sort((left, right) => left - right)
  return {
    ...trial,
    requestsPerSecond: requests / seconds,
    rowsPerSecond: rows / seconds,
    p50Ms: quantile(latenciesMs, 0.5),
    p99Ms: quantile(latenciesMs, 0.99),
    memoryBytes: version.memoryBytes ?? version.sizeBytes,
    cpuMicrosPerRow: (user + system) / Math.max(1, rows),
    meanBatchRows: (after.rows - before.rows) / Math.max(1, after.batches - before.batches),
    failed,
  }
}

interface Tally {
  readonly latenciesMs: number[]
  requests: number
  rows: number
  failed: number
}

async function closedLoop(version: Servable, { trial, load, signal }: TryOptions, forMs: number): Promise<Tally> {
  const tally: Tally = { latenciesMs: [], requests: 0, rows: 0, failed: 0 }
  const untilMs = performance.now() + forMs
  let next = 0
  const caller = async (): Promise<void> => {
    while (performance.now() < untilMs && !signal.aborted) {
      const inputs = load[next++ % load.length] ?? []
      const askedMs = performance.now()
      try {
        await predict(version, { inputs, signal })
        tally.requests++
        tally.rows += version.signature.takesRows ? (inputs[0]?.shape[0] ?? 1) : 1
        const place =
          tally.latenciesMs.length < MAX_LATENCIES ? tally.latenciesMs.length : tally.requests % MAX_LATENCIES
        tally.latenciesMs[place] = performance.now() - askedMs
      } catch {
        tally.failed++
        // Whoever is refused at once must not keep the event loop from everybody else.
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
  }
  await Promise.all(Array.from({ length: trial.concurrency }, caller))
  return tally
}

/** The smallest value that is no smaller than a share of all; 0 of none. */
function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0
}
