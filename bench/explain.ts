/**
 * What explaining costs: the rows that a model answers to explain others, against the same model in a loop over batches of as many
 * rows; and what somebody who waits for a prediction notices of it, against the same callers with nothing to explain.
 */
import { create } from '@bufbuild/protobuf'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { AttributionMethod, ExplainService } from '@slipway/proto/slipway/inference/v1/explain_service'
import { type Client, createClient } from '@slipway/rpc'
import { atLeast, type Benchmark, informs, median } from './benchmark.ts'
import { detailsOf, failures, measureClosed, medianRatio } from './closed-load.ts'
import { calibrate } from './cost.ts'
import { startInference } from './inference-servers.ts'
import type { Row } from './measure.ts'
import { FEATURES } from './model.ts'
import { BenchProcess } from './processes.ts'

const MODEL = 'explained'
const COST = { perRunMs: 0.1, perRowMs: 0.005 }
/** The server's own default. */
const BATCH_ROWS = 128
/** Features in which the row differs from the background: as many as are still explained exactly. */
const DIFFERENT = 12
const BACKGROUND_ROWS = 16
const CALLERS = 4

/** See the top of this file. */
export const explainBenchmark: Benchmark = {
  name: 'explain',
  summary: 'rows/s that explanations have a model answer, against a loop; what callers of predictions notice of them',
  defaults: { seconds: 2, rounds: 5 },
  async run({ seconds, rounds, parameters }, progress) {
    const settings: Record<string, string> = { SLIPWAY_INFERENCE_EXECUTORS: '1' }
    if (parameters.batches !== undefined) settings.SLIPWAY_INFERENCE_EXPLAIN_BATCHES_IN_FLIGHT = parameters.batches
    progress(`making a model of ${COST.perRunMs} ms a run`)
    const { model, cost } = await calibrate(COST)
    const loop = new BenchProcess(new URL('./servers/model-loop.ts', import.meta.url))
    const { servers, stop } = await startInference(MODEL, model, { server: settings })
    const client = createClient(ExplainService, { address: servers.server.address })
    const measureMs = seconds * 1000
    const load = { model: MODEL, callers: CALLERS, rows: 1, warmUpMs: 300, measureMs }
    const explained: number[] = []
    const loops: number[] = []
    const predictions: Row[][] = []
    try {
      await loop.next()
      await loop.ask({ model: Buffer.from(model).toString('base64'), threads: 1, rows: BATCH_ROWS })
      await explainFor(client, measureMs / 4)
      for (let round = 1; round <= rounds; round++) {
        progress(`round ${round} of ${rounds}`)
        loops.push(await loop.ask<number>({ measureMs }))
        explained.push(await explainFor(client, measureMs))
        const alone = await measureClosed('nothing explained', servers.server, load)
        const done = new AbortController()
        const explaining = explainFor(client, Number.POSITIVE_INFINITY, done.signal)
        const beside = await measureClosed('beside explanations', servers.server, load)
        done.abort()
        await explaining
        predictions.push([alone, beside])
      }
    } finally {
      client.close()
      await Promise.all([loop.stop(), stop()])
    }
    const added = (pick: (row: Row) => number) =>
      median(predictions.map(([alone, beside]) => pick(beside as Row) - pick(alone as Row)))
    const batchMs = cost.perRunMs + BATCH_ROWS * cost.perRowMs
    return {
      rows: [
        informs(`a batch of ${BATCH_ROWS} rows alone`, batchMs, 'ms'),
        informs('the model in a loop over such batches', median(loops), 'rows/s'),
        informs('explanations, exact, one request at a time', median(explained), 'rows/s'),
        atLeast(
          'explanations, of the loop',
          medianRatio(explained.map((rate, index) => [rate, loops[index] ?? Number.NaN])),
          0.6,
          '×',
        ),
        informs(
          `p50 of ${CALLERS} callers, explanations add`,
          added((row) => row.p50Ms),
          'ms',
        ),
        informs(
          `p99 of ${CALLERS} callers, explanations add`,
          added((row) => row.p99Ms),
          'ms',
        ),
        failures(predictions),
      ],
      details: detailsOf(predictions),
      data: { explained, loops, predictions },
    }
  },
}

/** Explains one row after another for so long, or until told to stop; rows a second that the model answered for it. */
async function explainFor(
  client: Client<typeof ExplainService>,
  durationMs: number,
  done?: AbortSignal,
): Promise<number> {
  const begunMs = performance.now()
  let evaluations = 0
  for (let row = 1; performance.now() - begunMs < durationMs && !done?.aborted; row++) {
    const { explanations } = await client.explain({
      model: MODEL,
      rows: { case: 'tensors', value: tensors(1, (column) => (column < DIFFERENT ? row + column : 0)) },
      background: tensors(BACKGROUND_ROWS, (column, other) => (column < DIFFERENT ? -1 - other - column : 0)),
    })
    for (const explanation of explanations) {
      if (explanation.method !== AttributionMethod.EXACT) throw new Error('the row was not explained exactly')
      evaluations += Number(explanation.evaluations)
    }
  }
  return (evaluations * 1000) / (performance.now() - begunMs)
}

function tensors(rows: number, cell: (column: number, row: number) => number) {
  const values = Float32Array.from({ length: rows * FEATURES }, (_, index) =>
    cell(index % FEATURES, Math.floor(index / FEATURES)),
  )
  return create(ModelInferRequestSchema, {
    inputs: [{ name: 'features', datatype: 'FP32', shape: [BigInt(rows), BigInt(FEATURES)] }],
    rawInputContents: [new Uint8Array(values.buffer)],
  })
}
