import { create } from '@bufbuild/protobuf'
import { elementOf } from '@slipway/onnx'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { Code, Failure } from '@slipway/rpc'
import { expect, test } from 'vitest'
import { refusal } from '../refusals.ts'
import { Evaluator, type EvaluatorOptions, valueClasses } from './evaluator.ts'
import { type FunctionModel, functionModel, vectorSignature, vectors } from './functions.fixture.ts'
import { playersOf } from './players.ts'
import { readTable } from './row-table.ts'

const served = () => functionModel(vectorSignature(2), ([a, b]) => 10 * Number(a) + Number(b))
const element = elementOf('FP64')
if (element === undefined) throw new Error('there are doubles')
const target = { name: 'score', tensor: 'score', column: 0, element }

function evaluating(model: FunctionModel, change: Partial<EvaluatorOptions> = {}) {
  const table = (rows: number[][]) => readTable(create(ModelInferRequestSchema, vectors(rows)), model)
  const background = table([1, 2, 3, 4, 5, 6].map((value) => [value, value]))
  const players = playersOf(background.inputs, [])
  const sources = {
    explained: { table: table([[7, 8]]), row: 0 },
    background,
    players,
    classes: valueClasses(background, background.rows, players),
  }
  const evaluator = new Evaluator({
    served: model,
    target,
    batchRows: 2,
    batchesInFlight: 2,
    deadlineMs: Number.POSITIVE_INFINITY,
    signal: new AbortController().signal,
    ...change,
  })
  const hybrids = { backgrounds: Uint32Array.from({ length: 12 }, (_, i) => i % 6), coalitions: new Uint8Array(24) }
  for (let index = 6; index < 12; index++) hybrids.coalitions[2 * index] = 1
  return { evaluator, answers: () => evaluator.answerHybrids(sources, hybrids) }
}

test('each answer stands where its hybrid stood, whichever batch came first', async () => {
  const model = served()
  let turn = 0
  model.before = async () => {
    for (let index = 0; index < (turn++ % 3) * 5; index++) await Promise.resolve()
    return undefined
  }
  const { answers } = evaluating(model)
  expect([...(await answers())]).toEqual([11, 22, 33, 44, 55, 66, 71, 72, 73, 74, 75, 76])
  expect(model.offered).toEqual([2, 2, 2, 2, 2, 2])
})

test('after the deadline nothing more is sent', async () => {
  const model = served()
  const deadlineMs = Date.now() + 30
  model.before = async () => {
    while (Date.now() <= deadlineMs) await new Promise((resolve) => setTimeout(resolve, 5))
    return undefined
  }
  const { answers } = evaluating(model, { deadlineMs })
  await expect(answers()).rejects.toMatchObject({ code: Code.DEADLINE_EXCEEDED })
  expect(model.offered.length).toBe(2)
})

test('pauses double while the queue is full, at least as long as the queue asks for, up to a second', async () => {
  const model = served()
  const pauses: number[] = []
  model.before = async () =>
    pauses.length < 9 ? refusal.queueFull('function', 'test', pauses.length === 2 ? 700 : 1) : undefined
  const { answers } = evaluating(model, {
    batchesInFlight: 1,
    pause: async (milliseconds) => {
      pauses.push(milliseconds)
    },
  })
  await answers()
  expect(pauses).toEqual([10, 20, 700, 80, 160, 320, 640, 1000, 1000])
})

test('a full queue is the answer when the deadline comes before the next try', async () => {
  const model = served()
  model.before = async () => refusal.queueFull('function', 'test', 500)
  const { answers } = evaluating(model, { deadlineMs: Date.now() + 400 })
  await expect(answers()).rejects.toMatchObject({ code: Code.RESOURCE_EXHAUSTED })
  expect(model.offered.length).toBe(2)
})

test('a batch that fails ends all others', async () => {
  const model = served()
  model.before = async () => new Failure(Code.INTERNAL, 'MODEL_RUN_FAILED', 'test')
  const { answers } = evaluating(model)
  await expect(answers()).rejects.toMatchObject({ reason: 'MODEL_RUN_FAILED' })
  expect(model.offered.length).toBe(2)
})
