/** Models that cost what a benchmark asks for on the machine that it runs on. */
import { costModel } from '@slipway/onnx'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { median } from './benchmark.ts'
import { FEATURES } from './model.ts'

/** What a run should take, or takes: so much whatever its rows, and so much more for each row. */
export interface Cost {
  readonly perRunMs: number
  readonly perRowMs: number
}

/** A model and what it costs here. */
export interface CalibratedModel {
  readonly model: Uint8Array
  /** As measured, on one thread. */
  readonly cost: Cost
}

/** Batch sizes whose times are compared: large ones where a row is cheap. */
const CHEAP = { few: 16, many: 144, samples: 60 }
const DEAR = { few: 1, many: 5, samples: 40 }
const DEAR_FROM_MS = 0.1
const STEPS = 4

/**
 * A model that costs about that. Tells the products of costModel that are needed by making models and timing them, the
 * cost of a row being the slope between small batches and large ones.
 */
export async function calibrate(wanted: Cost): Promise<CalibratedModel> {
  let perRun = Math.round(wanted.perRunMs / 0.0015)
  let perRow = Math.max(1, Math.round(wanted.perRowMs / 0.0005))
  let found: CalibratedModel | undefined
  for (let step = 0; step < STEPS; step++) {
    const model = costModel({ perRun, perRow })
    const cost = await measureCost(model, wanted.perRowMs < DEAR_FROM_MS ? CHEAP : DEAR)
    found = { model, cost }
    const rowRatio = wanted.perRowMs / Math.max(cost.perRowMs, 1e-6)
    const runRatio = wanted.perRunMs / Math.max(cost.perRunMs, 1e-6)
    if (isNear(rowRatio) && (isNear(runRatio) || wanted.perRunMs === 0)) break
    perRow = Math.max(1, Math.round(perRow * bounded(rowRatio)))
    perRun = wanted.perRunMs === 0 ? 0 : Math.max(0, Math.round(perRun * bounded(runRatio)))
  }
  if (found === undefined) throw new Error('no model was made')
  return found
}

/** What a model costs on one thread: the fastest quarter of its runs, since slower ones tell of other programs. */
async function measureCost(model: Uint8Array, { few, many, samples }: typeof CHEAP): Promise<Cost> {
  const session = await InferenceSession.create(model, { intraOpNumThreads: 1, interOpNumThreads: 1 })
  const fewMs = await timeRuns(session, few, samples)
  const manyMs = await timeRuns(session, many, samples)
  await session.release()
  const perRowMs = (manyMs - fewMs) / (many - few)
  return { perRunMs: Math.max(0, fewMs - perRowMs * few), perRowMs }
}

async function timeRuns(session: InferenceSession, rows: number, samples: number): Promise<number> {
  const run = () =>
    session.run({ features: new Tensor('float32', new Float32Array(rows * FEATURES).fill(0.3), [rows, FEATURES]) })
  for (let index = 0; index < 10; index++) await run()
  const times: number[] = []
  for (let index = 0; index < samples; index++) {
    const begunMs = performance.now()
    await run()
    times.push(performance.now() - begunMs)
  }
  return median(times.sort((left, right) => left - right).slice(0, samples / 4))
}

function isNear(ratio: number): boolean {
  return Math.abs(ratio - 1) < 0.08
}

function bounded(ratio: number): number {
  return Math.min(4, Math.max(0.25, ratio))
}
