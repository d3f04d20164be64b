import { create } from '@bufbuild/protobuf'
import { costModel, elementOf } from '@slipway/onnx'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { Baseline } from '@slipway/proto/slipway/inference/v1/explain_service'
import { expect, test } from 'vitest'
import { predict } from '../local-predictions.ts'
import type { Servable } from '../servable.ts'
import { runOptions, startVersion } from '../testing.ts'
import { BACKGROUND_PRIORITY, type Work } from '../work-queue.ts'
import { backgroundOf } from './baseline.ts'
import { explainRows } from './explainer.ts'
import { vectors } from './functions.fixture.ts'
import { playersOf } from './players.ts'
import { readTable, tensorsOf } from './row-table.ts'

const batchesInFlight = 2

/** Counts the pieces of background work that a version answers. */
function countBackground(served: Servable): () => number {
  let answered = 0
  const offer = served.offer.bind(served)
  served.offer = (work: Work): void => {
    if (work.priority >= BACKGROUND_PRIORITY) {
      const answer = work.answer.bind(work)
      work.answer = (outputs, part) => {
        answered++
        answer(outputs, part)
      }
    }
    offer(work)
  }
  return () => answered
}

test('somebody who waits lets at most those batches of an explanation pass that are under way', async () => {
  const served = await startVersion({ model: 'cost', bytes: costModel({ perRun: 2, perRow: 1 }) }, runOptions())
  const answered = countBackground(served)
  const rows = (seed: number, count: number) =>
    Array.from({ length: count }, (_, row) => Array.from({ length: 16 }, (_, at) => Math.sin(seed + row * 31 + at)))
  const tableOf = (given: number[][]) => readTable(create(ModelInferRequestSchema, vectors(given)), served)
  const table = tableOf(rows(1, 1))
  const background = backgroundOf(Baseline.REQUEST, create(ModelInferRequestSchema, vectors(rows(2, 32))), served)
  const element = elementOf('FP32')
  if (element === undefined) throw new Error('there are floats')
  let isOver = false
  const explained = explainRows({
    table,
    background,
    players: playersOf(table.inputs, []),
    evaluate: {
      served,
      target: { name: 'probability', tensor: 'probability', column: 0, element },
      batchRows: 64,
      batchesInFlight,
      deadlineMs: Number.POSITIVE_INFINITY,
      signal: new AbortController().signal,
    },
    maxEvaluations: 30_000,
    maxBackgroundRows: 32,
    seed: 1n,
    targetStandardError: 0,
  }).finally(() => {
    isOver = true
  })
  await expect.poll(answered).toBeGreaterThan(3)
  const passed: number[] = []
  while (!isOver && passed.length < 30) {
    const before = answered()
    await predict(served, { inputs: tensorsOf(table) })
    passed.push(answered() - before)
  }
  expect(passed.length).toBe(30)
  // Those that were under way, and those that took their places while the last of them ran.
  expect(Math.max(...passed)).toBeLessThanOrEqual(2 * batchesInFlight)
  const { explanations } = await explained
  expect(explanations.length).toBe(1)
  await served.close()
})
