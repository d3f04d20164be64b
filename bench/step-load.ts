/**
 * From 5 callers of one row to 500 and what batching makes of it: the server as it is, one without batches, and
 * servers with fixed batch sizes and delays, one of which happens to be the best for this load.
 */
import { atLeast, type Benchmark, type Figure, informs, median } from './benchmark.ts'
import { type ClosedLoad, detailsOf, failures, measureClosed, medianRatio } from './closed-load.ts'
import { calibrate } from './cost.ts'
import { startInference } from './inference-servers.ts'
import type { Row } from './measure.ts'

const MODEL = 'step'
const FEW_CALLERS = 5
const MANY_CALLERS = 500
const OBJECTIVE_MS = 100
/** Rows of a round: the server as it is, the unbatched one, the fixed ones. */
const FIRST_FIXED = 2
const GRID = [
  [32, 0],
  [128, 0],
  [64, 1],
  [256, 1],
  [256, 3],
  [512, 10],
] as const

/** See the top of this file. */
export const stepLoadBenchmark: Benchmark = {
  name: 'step-load',
  summary: 'throughput after a step from 5 to 500 callers, against no batching and against the best fixed setting',
  defaults: { seconds: 1.5, rounds: 8 },
  async run({ seconds, rounds }, progress) {
    progress('making a model of 0.3 ms a run and 5 µs a row')
    const { model, cost } = await calibrate({ perRunMs: 0.3, perRowMs: 0.005 })
    const fixed = Object.fromEntries(
      GRID.map(([rows, delayMs]) => [`${rows} rows, ${delayMs} ms`, setting(rows, delayMs)]),
    )
    const objective = { SLIPWAY_INFERENCE_LATENCY_OBJECTIVE: `${OBJECTIVE_MS}ms` }
    const { servers, stop } = await startInference(MODEL, model, {
      learned: objective,
      unbatched: setting(1, 0),
      ...fixed,
    })
    const measured: Row[][] = []
    try {
      for (let round = 1; round <= rounds; round++) {
        progress(`round ${round} of ${rounds}`)
        const rows: Row[] = []
        // Each round begins with another server, so that none has the place after a quiet one for itself.
        const entries = rotate(Object.entries(servers), round)
        for (const [name, server] of entries) rows.push(await step(name, server, seconds * 1000))
        measured.push(rotate(rows, -round))
      }
    } finally {
      await stop()
    }
    return {
      rows: [
        informs('fixed part of a run', cost.perRunMs, 'ms'),
        informs('each row', cost.perRowMs * 1000, 'µs'),
        ...figuresOf(measured),
        failures(measured),
      ],
      details: detailsOf(measured),
      data: { measured },
    }
  },
}

/** The load steps up without a pause: a few callers, then many, of which the first half second is not counted. */
async function step(name: string, server: Parameters<typeof measureClosed>[1], measureMs: number): Promise<Row> {
  const load: Omit<ClosedLoad, 'callers'> = { model: MODEL, rows: 1, warmUpMs: 500, measureMs }
  await measureClosed(name, server, { ...load, callers: FEW_CALLERS, warmUpMs: 100, measureMs: 200 })
  return measureClosed(name, server, { ...load, callers: MANY_CALLERS })
}

function figuresOf(measured: readonly (readonly Row[])[]): Figure[] {
  const folds = [0, 1].map((fold) => measured.filter((_, index) => index % 2 === fold))
  const best = folds.map((fold) => bestOf(fold.length > 0 ? fold : measured))
  const ratios = folds.map((_, fold) =>
    ratioTo(folds[1 - fold]?.length ? (folds[1 - fold] ?? []) : measured, best[fold] ?? 0),
  )
  const names = [...new Set(best.map((index) => measured[0]?.[index]?.name ?? ''))]
  return [
    informs('throughput', median(measured.map((rows) => rows[0]?.callsPerSecond ?? Number.NaN)), 'calls/s'),
    atLeast('throughput, of unbatched', ratioTo(measured, 1), 3, '×'),
    atLeast(`throughput, of the best fixed setting (${names.join('; ')})`, median(ratios), 0.95, '×'),
  ]
}

/**
 * The fixed setting that does best in some rounds. It is compared in the other ones: the luckiest of several settings in the
 * rounds that it was chosen by would look better than it is.
 */
function bestOf(rounds: readonly (readonly Row[])[]): number {
  const settings = GRID.map((_, index) => index + FIRST_FIXED)
  return settings.reduce((best, index) => (ratioTo(rounds, index) < ratioTo(rounds, best) ? index : best), FIRST_FIXED)
}

/** The middle of the learned server's throughput, of another's, round by round. */
function ratioTo(rounds: readonly (readonly Row[])[], index: number): number {
  return medianRatio(
    rounds.map((rows) => [rows[0]?.callsPerSecond ?? Number.NaN, rows[index]?.callsPerSecond ?? 0] as const),
  )
}

function setting(rows: number, delayMs: number): Record<string, string> {
  return { SLIPWAY_INFERENCE_MAX_BATCH_ROWS: String(rows), SLIPWAY_INFERENCE_BATCH_DELAY: `${delayMs}ms` }
}

function rotate<T>(items: readonly T[], by: number): T[] {
  const at = ((by % items.length) + items.length) % items.length
  return [...items.slice(at), ...items.slice(0, at)]
}
