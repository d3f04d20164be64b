/** All benchmarks by name; each is loaded only when it is asked for. */
import type { Benchmark } from './benchmark.ts'

/** Name to benchmark, in the order in which they are listed. */
export const benchmarks: Readonly<Record<string, () => Promise<Benchmark>>> = {
  'hot-path': async () => (await import('./hot-path-report.ts')).hotPathBenchmark,
  rows: async () => (await import('./rows.ts')).rowsBenchmark,
  idle: async () => (await import('./idle.ts')).idleBenchmark,
  'step-load': async () => (await import('./step-load.ts')).stepLoadBenchmark,
  overload: async () => (await import('./overload.ts')).overloadBenchmark,
  'deadline-storm': async () => (await import('./deadline-storm.ts')).deadlineStormBenchmark,
  'batch-job': async () => (await import('./batch-job.ts')).batchJobBenchmark,
  'event-loop-lag': async () => (await import('./event-loop-lag.ts')).eventLoopLagBenchmark,
  'hot-swap': async () => (await import('./hot-swap.ts')).hotSwapBenchmark,
  pipeline: async () => (await import('./pipeline.ts')).pipelineBenchmark,
  explain: async () => (await import('./explain.ts')).explainBenchmark,
  fuzz: async () => (await import('./fuzz.ts')).fuzzBenchmark,
}
