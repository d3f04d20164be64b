import { create, toBinary } from '@bufbuild/protobuf'
import { mlpModel, randomLayers } from '@slipway/onnx'
import { ModelInferRequestSchema, ModelInferResponseSchema } from '@slipway/proto/inference/grpc_service'
import { Code, Failure } from '@slipway/rpc'
import { expect, test, vi } from 'vitest'
import { predict } from '../local-predictions.ts'
import type { Servable } from '../servable.ts'
import { describeSignature } from '../signature.ts'
import type { Work } from '../work-queue.ts'
import { GroupTable } from './group-table.ts'
import { floats, heldVersions, pipelineFiles, startTestPipeline } from './pipeline.fixture.ts'

const digest = `sha256:${'0'.repeat(64)}`

/** A version that answers at once until it is told to be patient; from then on only when its test says so. */
function patientVersion(model: string) {
  const works: Work[] = []
  const state = { isPatient: false }
  const tensor = (name: string) => ({ name, datatype: 'FP32' as const, shape: [-1] })
  const signature = describeSignature([tensor('x')], [tensor('y')])
  const none = { queued: 0, batches: 0, rows: 0, expired: 0, cancelled: 0, shed: 0, executedAfterDeadline: 0 }
  const served: Servable = {
    name: `models/${model}/versions/1`,
    model,
    number: '1',
    digest,
    sizeBytes: 1,
    signature,
    platform: 'test',
    isQuarantined: false,
    counts: none,
    lastUsedMs: 0,
    group: new GroupTable(signature).find,
    offer: (work) => (state.isPatient ? works.push(work) : answer(work)),
    drain: async () => {},
    close: async () => {},
  }
  return { served, works, state }
}

const step = (name: string, model: string, x: string) => ({
  name,
  model: { version: { name: `models/${model}/versions/1`, digest }, inputs: { x } },
})

/** `first` and `second` read the input, `third` what `first` gives. */
async function startGraph() {
  const [one, two] = [patientVersion('one'), patientVersion('two')]
  const files = pipelineFiles({
    inputs: [{ name: 'x', datatype: 'FP32', shape: [-1] }],
    steps: [step('third', 'two', 'first.y'), step('first', 'one', 'input.x'), step('second', 'two', 'input.x')],
    outputs: [
      { name: 'a', tensor: 'second.y' },
      { name: 'b', tensor: 'third.y' },
    ],
  })
  const version = await startTestPipeline(files, { hold: heldVersions(one.served, two.served).hold })
  for (const { state } of [one, two]) state.isPatient = true
  return { version, one, two }
}

function answer(work: Work | undefined): void {
  if (work === undefined) throw new Error('no work')
  const bytes = work.bytes.subarray(work.offsets[0], work.offsets[1])
  work.answer([{ dims: [work.rows], bytes }], { starts: [0], ends: [bytes.length], rows: undefined })
}

const inputs = [floats('x', [1, 2])]

test('steps begin as soon as what they read is there, with the priority and the deadline of the request', async () => {
  const { version, one, two } = await startGraph()
  const deadlineMs = Date.now() + 60_000
  const asked = predict(version, { inputs, priority: 3, deadlineMs })
  await vi.waitUntil(() => one.works.length === 1 && two.works.length === 1)
  expect([...one.works, ...two.works].map((work) => [work.priority, work.deadlineMs, work.rows])).toEqual([
    [3, deadlineMs, 2],
    [3, deadlineMs, 2],
  ])
  answer(one.works[0])
  await vi.waitUntil(() => two.works.length === 2)
  answer(two.works[1])
  answer(two.works[0])
  expect((await asked).map(({ name, shape }) => [name, shape])).toEqual([
    ['a', [2]],
    ['b', [2]],
  ])
})

test('a step that the outputs asked for do not need does not run', async () => {
  const { version, one, two } = await startGraph()
  const asked = predict(version, { inputs, outputs: ['a'] })
  await vi.waitUntil(() => two.works.length === 1)
  answer(two.works[0])
  expect((await asked).map(({ name }) => name)).toEqual(['a'])
  expect(one.works).toEqual([])
})

test('a step that fails fails the request with its name, as the model said it, and gives up what runs beside it', async () => {
  const { version, one, two } = await startGraph()
  const asked = predict(version, { inputs })
  await vi.waitUntil(() => one.works.length === 1 && two.works.length === 1)
  const told = vi.fn()
  two.works[0]?.onCancel?.(told)
  one.works[0]?.fail(new Failure(Code.RESOURCE_EXHAUSTED, 'QUEUE_FULL', 'full', { retryAfterMs: 70 }))
  await expect(asked).rejects.toMatchObject({
    code: Code.RESOURCE_EXHAUSTED,
    reason: 'QUEUE_FULL',
    message: "step 'first' failed: full",
    retryAfterMs: 70,
    metadata: { step: 'first' },
  })
  expect(two.works[0]?.isCancelled).toBe(true)
  expect(told).toHaveBeenCalledOnce()
  answer(two.works[0])
  await version.drain()
  expect(two.works).toHaveLength(1)
})

test('a caller who goes takes the work of all steps along, and no other step begins', async () => {
  const { version, one, two } = await startGraph()
  const caller = new AbortController()
  const asked = predict(version, { inputs, signal: caller.signal })
  await vi.waitUntil(() => one.works.length === 1)
  const told = vi.fn()
  const replaced = vi.fn()
  for (const work of [...one.works, ...two.works]) {
    work.onCancel?.(replaced)
    work.onCancel?.(told)
  }
  caller.abort()
  expect(told).toHaveBeenCalledTimes(2)
  expect(replaced).not.toHaveBeenCalled()
  expect([...one.works, ...two.works].map((work) => work.isCancelled)).toEqual([true, true])
  answer(one.works[0])
  await expect(asked).rejects.toMatchObject({ code: Code.CANCELLED })
  answer(two.works[0])
  await version.drain()
  expect(two.works).toHaveLength(1)
})

test('a deadline that passes between steps ends the request there', async () => {
  const { version, one, two } = await startGraph()
  const deadlineMs = Date.now() + 60_000
  const asked = predict(version, { inputs, outputs: ['b'], deadlineMs })
  await vi.waitUntil(() => one.works.length === 1)
  const clock = vi.spyOn(Date, 'now').mockReturnValue(deadlineMs + 1)
  answer(one.works[0])
  await expect(asked).rejects.toMatchObject({ code: Code.DEADLINE_EXCEEDED })
  clock.mockRestore()
  expect(two.works).toEqual([])
})

test('a pipeline whose registered example is answered otherwise is refused', async () => {
  const files = (expected: number) => {
    const request = create(ModelInferRequestSchema, {
      inputs: [{ name: 'x', datatype: 'FP32', shape: [1n, 2n], contents: { fp32Contents: [0, 0] } }],
    })
    const response = create(ModelInferResponseSchema, {
      outputs: [{ name: 'y', datatype: 'FP32', shape: [1n], contents: { fp32Contents: [expected] } }],
    })
    return pipelineFiles(
      {
        inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }],
        steps: [
          { name: 'score', model: { file: 'steps/score.onnx', inputs: { features: 'input.x' } } },
          {
            name: 'scale',
            expressions: {
              outputs: [{ name: 'y', datatype: 'FP32', expression: 'score.probability[0] > 2.0 ? 1.0 : 100.0' }],
            },
          },
        ],
        outputs: [{ name: 'y', tensor: 'scale.y' }],
      },
      {
        'steps/score.onnx': mlpModel({ layers: randomLayers([2, 1], 1) }),
        'example/request.binpb': toBinary(ModelInferRequestSchema, request),
        'example/response.binpb': toBinary(ModelInferResponseSchema, response),
      },
    )
  }
  await (await startTestPipeline(files(100))).close()
  await expect(startTestPipeline(files(1))).rejects.toMatchObject({ code: Code.FAILED_PRECONDITION })
})
