/** What batching costs a caller who is alone: the same server with batching, and with batches of one row. */
import { atMost, type Benchmark, informs, median } from './benchmark.ts'
import { detailsOf, failures, measureClosed } from './closed-load.ts'
import { calibrate } from './cost.ts'
import { startInference } from './inference-servers.ts'
import type { Row } from './measure.ts'

const MODEL = 'idle'
const OBJECTIVE_MS = 50

/** See the top of this file. */
export const idleBenchmark: Benchmark = {
  name: 'idle',
  summary: 'p50 of one caller with batching, against the same server with batching off',
  defaults: { seconds: 1, rounds: 9 },
  async run({ seconds, rounds }, progress) {
    progress('making a model of 0.3 ms a run and 5 µs a row')
    const { model } = await calibrate({ perRunMs: 0.3, perRowMs: 0.005 })
    const { servers, stop } = await startInference(MODEL, model, {
      batching: {},
      objective: { SLIPWAY_INFERENCE_LATENCY_OBJECTIVE: `${OBJECTIVE_MS}ms` },
      off: { SLIPWAY_INFERENCE_MAX_BATCH_ROWS: '1' },
    })
    const load = { model: MODEL, callers: 1, rows: 1, warmUpMs: 200, measureMs: seconds * 1000 }
    const measured: Row[][] = []
    try {
      for (let round = 1; round <= rounds; round++) {
        progress(`round ${round} of ${rounds}`)
        const rows: Row[] = []
        for (const [name, server] of Object.entries(servers)) rows.push(await measureClosed(name, server, load))
        measured.push(rows)
      }
    } finally {
      await stop()
    }
    const added = (index: number): number =>
      median(measured.map((rows) => (rows[index]?.p50Ms ?? Number.NaN) - (rows[2]?.p50Ms ?? Number.NaN)))
    return {
      rows: [
        informs('p50 with batching off', median(measured.map((rows) => rows[2]?.p50Ms ?? Number.NaN)), 'ms'),
        atMost('p50 with batching, beyond that', added(0), 0.3, 'ms'),
        atMost(`p50 with an objective of ${OBJECTIVE_MS} ms, beyond that`, added(1), 0.3, 'ms'),
        failures(measured),
      ],
      details: detailsOf(measured),
      data: { measured },
    }
  },
}
