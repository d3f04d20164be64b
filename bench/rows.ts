/**
 * Rows through the server against rows through the model alone: 64 callers of 32 rows each, against a process that runs
 * the same model in a loop on as many threads as the server has executors.
 */
import { atLeast, type Benchmark, informs, median } from './benchmark.ts'
import { detailsOf, failures, measureClosed, medianRatio } from './closed-load.ts'
import { calibrate } from './cost.ts'
import { startInference } from './inference-servers.ts'
import type { Row } from './measure.ts'
import { BenchProcess } from './processes.ts'

const MODEL = 'rows'
const CALLERS = 64
const ROWS = 32
/** About 1 ms for the rows of one call, most of it for the rows, so that larger batches gain little. */
const COST = { perRunMs: 0.1, perRowMs: 0.028 }

/** See the top of this file. */
export const rowsBenchmark: Benchmark = {
  name: 'rows',
  summary: 'rows/s of 64 callers with 32 rows a call, a model of about 1 ms a run, against the model in a loop',
  defaults: { seconds: 2, rounds: 7 },
  async run({ seconds, rounds, parameters }, progress) {
    const executors = Number(parameters.executors ?? 1)
    progress('making a model of 1 ms for 32 rows')
    const { model, cost } = await calibrate(COST)
    const loop = new BenchProcess(new URL('./servers/model-loop.ts', import.meta.url))
    const { servers, stop } = await startInference(MODEL, model, {
      server: { SLIPWAY_INFERENCE_EXECUTORS: String(executors), SLIPWAY_INFERENCE_THREADS: String(executors) },
    })
    const measureMs = seconds * 1000
    const measured: Row[][] = []
    const loops: number[] = []
    try {
      await loop.next()
      await loop.ask({ model: Buffer.from(model).toString('base64'), threads: executors, rows: ROWS })
      for (let round = 1; round <= rounds; round++) {
        progress(`round ${round} of ${rounds}`)
        loops.push(await loop.ask<number>({ measureMs }))
        const load = { model: MODEL, callers: CALLERS, rows: ROWS, warmUpMs: 300, measureMs }
        measured.push([await measureClosed('server', servers.server, load)])
      }
    } finally {
      await Promise.all([loop.stop(), stop()])
    }
    const perSecond = measured.map(([row]) => (row?.callsPerSecond ?? Number.NaN) * ROWS)
    const ratio = medianRatio(perSecond.map((value, index) => [value, loops[index] ?? Number.NaN] as const))
    return {
      rows: [
        informs('a run of 32 rows alone', cost.perRunMs + ROWS * cost.perRowMs, 'ms'),
        informs(`model in a loop, ${executors} ${executors === 1 ? 'thread' : 'threads'}`, median(loops), 'rows/s'),
        informs('server, 64 callers', median(perSecond), 'rows/s'),
        atLeast('server, of the loop', ratio, 0.9, '×'),
        failures(measured),
      ],
      details: detailsOf(measured),
      data: { measured, loops },
    }
  },
}
