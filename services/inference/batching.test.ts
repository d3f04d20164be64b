import type { MessageInitShape } from '@bufbuild/protobuf'
import { buildModel, mlpModel, randomLayers } from '@slipway/onnx'
import type { ModelInferRequestSchema, ModelInferResponse } from '@slipway/proto/inference/grpc_service'
import { Code } from '@slipway/rpc'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { serve, type TestServer } from './testing.ts'

type Request = MessageInitShape<typeof ModelInferRequestSchema>

/** Looks a value up in a table of ten: an index outside of it makes the runtime refuse the whole run. */
const lookup = buildModel({
  name: 'lookup',
  inputs: [{ name: 'index', datatype: 'INT64', shape: [-1] }],
  outputs: [{ name: 'value', datatype: 'FP32', shape: [-1] }],
  nodes: [{ operator: 'Gather', inputs: ['table', 'index'], outputs: ['value'] }],
  initializers: [{ name: 'table', datatype: 'FP32', shape: [10], values: [0, 1, 4, 9, 16, 25, 36, 49, 64, 81] }],
})

/** Rows in, one number out whatever the rows: a model whose signature promises rows and whose graph does not keep them. */
const rowless = buildModel({
  name: 'rowless',
  inputs: [{ name: 'x', datatype: 'FP32', shape: [-1] }],
  outputs: [{ name: 'sum', datatype: 'FP32', shape: [-1] }],
  nodes: [{ operator: 'ReduceSum', inputs: ['x'], outputs: ['sum'], attributes: { keepdims: { int: 1 } } }],
})

let server: TestServer

beforeAll(async () => {
  server = await serve([
    { model: 'mlp', bytes: mlpModel({ layers: randomLayers([8, 16, 2], 3) }) },
    { model: 'linear', bytes: mlpModel({ layers: randomLayers([3, 1], 4), sigmoid: false }) },
    { model: 'lookup', bytes: lookup },
    { model: 'rowless', bytes: rowless },
  ])
})
afterAll(() => server.stop())

const floats = (values: readonly number[]): Buffer => Buffer.from(Float32Array.from(values).buffer)
const read = (answer: ModelInferResponse): number[] => {
  const raw = answer.rawOutputContents[0] ?? new Uint8Array()
  return [...new Float32Array(Uint8Array.from(raw).buffer)]
}

const dense = (model: string, columns: number) =>
  fc
    .array(fc.array(fc.float({ min: -4, max: 4, noNaN: true }), { minLength: columns, maxLength: columns }), {
      maxLength: 5,
    })
    .map(
      (rows): Request => ({
        modelName: model,
        inputs: [{ name: 'features', datatype: 'FP32', shape: [BigInt(rows.length), BigInt(columns)] }],
        rawInputContents: [floats(rows.flat())],
      }),
    )
const indices = fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 4 }).map(
  (values): Request => ({
    modelName: 'lookup',
    inputs: [{ name: 'index', datatype: 'INT64', shape: [BigInt(values.length)] }],
    rawInputContents: [Buffer.from(BigInt64Array.from(values.map(BigInt)).buffer)],
  }),
)
const mix = fc.array(fc.oneof(dense('mlp', 8), dense('linear', 3), indices), { minLength: 1, maxLength: 40 })

describe('batching', () => {
  /**
   * The rule: a request answered in a batch equals the same request alone within 1e-6 + 1e-5 x |value| on FP32. The runtime
   * may choose other kernels for other numbers of rows, which changes the last bits of sums.
   */
  test('changes no answer: any mix of requests at once equals each of them alone', async () => {
    await fc.assert(
      fc.asyncProperty(mix, async (requests) => {
        const together = await Promise.all(
          requests.map((request, index) => server.client.modelInfer({ ...request, id: `r${index}` } as Request)),
        )
        for (const [index, request] of requests.entries()) {
          const alone = await server.client.modelInfer(request)
          const answer = together[index]
          expect(answer?.id).toBe(`r${index}`)
          expect(answer?.outputs.map(({ shape }) => shape)).toEqual(alone.outputs.map(({ shape }) => shape))
          const expected = read(alone)
          for (const [position, value] of read(answer ?? alone).entries()) {
            const bound = 1e-6 + 1e-5 * Math.abs(expected[position] ?? Number.NaN)
            expect(Math.abs(value - (expected[position] ?? Number.NaN))).toBeLessThanOrEqual(bound)
          }
        }
      }),
      { numRuns: 60 },
    )
  })

  test('happens: many at once take fewer runs than requests', async () => {
    const version = server.models.resolve('mlp', '')
    const before = version.counts
    const request = { name: 'features', datatype: 'FP32', shape: [1n, 8n] }
    const raw = floats([1, 2, 3, 4, 5, 6, 7, 8])
    await Promise.all(
      Array.from({ length: 200 }, () =>
        server.client.modelInfer({ modelName: 'mlp', inputs: [request], rawInputContents: [raw] }),
      ),
    )
    const after = version.counts
    expect(after.rows - before.rows).toBe(200)
    expect(after.batches - before.batches).toBeLessThan(100)
  })

  test('lets the one poisoned request fail alone', async () => {
    const ask = (index: number) =>
      server.client.modelInfer({
        modelName: 'lookup',
        inputs: [{ name: 'index', datatype: 'INT64', shape: [1n] }],
        rawInputContents: [Buffer.from(BigInt64Array.of(BigInt(index)).buffer)],
      })
    const answers = await Promise.allSettled(
      Array.from({ length: 32 }, (_, index) => ask(index === 13 ? 99 : index % 10)),
    )
    for (const [index, answer] of answers.entries()) {
      if (index === 13)
        expect(answer).toMatchObject({
          status: 'rejected',
          reason: { code: Code.INTERNAL, reason: 'MODEL_RUN_FAILED' },
        })
      else expect(answer.status === 'fulfilled' && read(answer.value)).toEqual([(index % 10) ** 2])
    }
  })

  test('is given up for a model that does not keep rows, without a wrong answer', async () => {
    const ask = (values: readonly number[]) =>
      server.client.modelInfer({
        modelName: 'rowless',
        inputs: [{ name: 'x', datatype: 'FP32', shape: [BigInt(values.length)] }],
        rawInputContents: [floats(values)],
      })
    const answers = await Promise.all(Array.from({ length: 20 }, (_, index) => ask([index, 1])))
    expect(answers.map(read)).toEqual(Array.from({ length: 20 }, (_, index) => [index + 1]))
  })
})
