/**
 * Twice as many calls as the server can answer, each with a deadline of 50 ms, and a model of 0.7 ms that runs once for each call:
 * what counts is how many calls are answered in time, of what the same server can do at its best.
 */
import { atLeast, type Benchmark, informs, median } from './benchmark.ts'
import { measureClosed } from './closed-load.ts'
import { calibrate } from './cost.ts'
import { startInference } from './inference-servers.ts'
import { benchRequest } from './model.ts'
import type { OpenLoadResult } from './open-load.ts'
import { countsOf, measureOpen } from './open-measure.ts'

const MODEL = 'overload'
const DEADLINE_MS = 50
const TIMES_CAPACITY = 2
/** Callers of the closed loop that finds the peak: enough that the executor never waits, few enough that nobody waits for long. */
const PEAK_CALLERS = 16

const SETTINGS = { SLIPWAY_INFERENCE_EXECUTORS: '1', SLIPWAY_INFERENCE_MAX_BATCH_ROWS: '1' }

/** See the top of this file. */
export const overloadBenchmark: Benchmark = {
  name: 'overload',
  summary: 'calls answered within 50 ms at twice the capacity, open loop, a model of 0.7 ms, against the peak',
  defaults: { seconds: 3, rounds: 7 },
  async run({ seconds, rounds, seed }, progress) {
    progress('making a model of 0.7 ms a run')
    const { model, cost } = await calibrate({ perRunMs: 0.7, perRowMs: 0.005 })
    const { servers, stop } = await startInference(MODEL, model, { server: SETTINGS })
    const { server } = servers
    const request = benchRequest(MODEL)
    const peaks: number[] = []
    const measured: OpenLoadResult[] = []
    const measureMs = seconds * 1000
    try {
      const load = { model: MODEL, callers: PEAK_CALLERS, rows: 1, warmUpMs: 300, measureMs: measureMs / 2 }
      for (let round = 1; round <= rounds; round++) {
        progress(`round ${round} of ${rounds}`)
        const before = await measureClosed('peak', server, load)
        const callsPerSecond = TIMES_CAPACITY * before.callsPerSecond
        const { address } = server
        const plan = { address, request, callsPerSecond, deadlineMs: DEADLINE_MS, seed: seed + round }
        measured.push(await measureOpen({ ...plan, warmUpMs: 500, measureMs }))
        const after = await measureClosed('peak', server, load)
        peaks.push((before.callsPerSecond + after.callsPerSecond) / 2)
      }
      const counts = await countsOf(server.address)
      const late = Number(counts.executedAfterDeadline)
      const goodput = measured.map(({ good, seconds: length }) => good / length)
      return {
        rows: [
          informs('a run of one row alone', cost.perRunMs + cost.perRowMs, 'ms'),
          informs('peak', median(peaks), 'calls/s'),
          informs('goodput at twice the capacity', median(goodput), 'calls/s'),
          atLeast('goodput, of the peak', median(goodput.map((good, index) => good / (peaks[index] ?? 0))), 0.9, '×'),
          { ...informs('runs that began after a deadline', late, ''), target: '0', holds: late === 0 },
          informs('refused at once', Number(counts.shed), ''),
          informs('dropped before they ran', Number(counts.expired + counts.cancelled), ''),
          informs(
            'answered too late',
            measured.reduce((sum, result) => sum + result.late, 0),
            '',
          ),
          informs('p99 of those answered in time', median(measured.map(({ p99Ms }) => p99Ms)), 'ms'),
        ],
        data: { peaks, measured },
      }
    } finally {
      await stop()
    }
  },
}
