/** All benchmarks by name; each is loaded only when it is asked for. */
import type { Benchmark } from './benchmark.ts'

/** Name to benchmark, in the order in which they are listed. */
export const benchmarks: Readonly<Record<string, () => Promise<Benchmark>>> = {
  'hot-path': async () => (await import('./hot-path-report.ts')).hotPathBenchmark,
  rows: async () => (await import('./rows.ts')).rowsBenchmark,
  idle: async () => (await import('./idle.ts')).idleBenchmark,
  'step-load': async () => (await import('./step-load.ts')).stepLoadBenchmark,
}
