/** The `fuzz` benchmark: a million requests that are wrong, and a server that must not mind. */
import { readFile } from 'node:fs/promises'
import {
  atLeast,
  atMost,
  type Benchmark,
  type BenchmarkOptions,
  informs,
  type Progress,
  type Report,
} from './benchmark.ts'
import { FUZZ_MODEL, fuzzModel } from './fuzz-model.ts'
import { runFuzz } from './fuzz-run.ts'
import { startInference } from './inference-servers.ts'

const MEBIBYTE = 1024 * 1024
const SAMPLES = 50
/** Of the samples; what comes before belongs to a server that warms up. */
const WARM_UP = 0.3

/** See the top of this file. */
export const fuzzBenchmark: Benchmark = {
  name: 'fuzz',
  summary:
    'requests that are malformed in many ways, each held to a full decoder and the rules of the protocol: answers, memory, and whether the server is right afterwards; --set requests=N',
  defaults: { seconds: 1, rounds: 1 },
  run,
}

async function run({ seed, parameters }: BenchmarkOptions, progress: Progress): Promise<Report> {
  const requests = Number(parameters.requests ?? 1_000_000)
  const { servers, stop } = await startInference(FUZZ_MODEL, fuzzModel(), { fuzzed: {} })
  try {
    const { address, process } = servers.fuzzed
    const samples: { readonly requests: number; readonly bytes: number }[] = []
    const every = Math.max(1, Math.floor(requests / SAMPLES))
    let next = 0
    const begunMs = performance.now()
    const result = await runFuzz({
      address,
      malformed: requests,
      connections: 8,
      callers: 32,
      seed,
      onProgress(malformed) {
        if (malformed < next) return
        next = malformed + every
        void residentBytes(process.pid).then((bytes) => samples.push({ requests: malformed, bytes }))
        progress(`${malformed} of ${requests}`)
      },
    })
    const seconds = (performance.now() - begunMs) / 1000
    const steady = samples.filter((sample) => sample.requests >= WARM_UP * requests && Number.isFinite(sample.bytes))
    const first = steady[0]?.bytes ?? Number.NaN
    const last = steady.at(-1)?.bytes ?? Number.NaN
    return {
      rows: [
        atLeast('malformed requests sent', result.malformed, requests, ''),
        informs('all requests sent', result.sent, ''),
        ...Object.entries(result.answers).map(([code, count]) => informs(`answered ${code}`, count, '')),
        atMost('answered otherwise than they may be', result.surprises, 0, ''),
        atMost('connections that the server ended', result.lost, 0, ''),
        atLeast('right requests answered rightly afterwards', result.right / result.checked, 1, ''),
        informs('memory of the server after the warm-up', first / MEBIBYTE, 'MiB'),
        informs('memory of the server at the end', last / MEBIBYTE, 'MiB'),
        atMost('growth of memory by the million', slope(steady) * (1e6 / MEBIBYTE), 32, 'MiB'),
        informs('requests a second', result.sent / seconds, '/s'),
      ],
      data: { ...result, samples },
    }
  } finally {
    await stop()
  }
}

/** Memory of a process; NaN where the system does not say. */
async function residentBytes(pid: number | undefined): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  return Number(/VmRSS:\s+(\d+) kB/.exec(text)?.[1] ?? Number.NaN) * 1024
}

/** Bytes for each request, by least squares. */
function slope(samples: readonly { readonly requests: number; readonly bytes: number }[]): number {
  const mean = (of: (sample: (typeof samples)[number]) => number) =>
    samples.reduce((sum, sample) => sum + of(sample), 0) / samples.length
  const requests = mean((sample) => sample.requests)
  const bytes = mean((sample) => sample.bytes)
  const covariance = mean((sample) => (sample.requests - requests) * (sample.bytes - bytes))
  return covariance / mean((sample) => (sample.requests - requests) ** 2)
}
