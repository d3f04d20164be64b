import { create, toBinary } from '@bufbuild/protobuf'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { Code } from '@slipway/rpc'
import { expect, test } from 'vitest'
import { FUZZ_MODEL, fuzzModel } from './fuzz-model.ts'
import { judge } from './fuzz-oracle.ts'
import { Chance, goodRequest, nextRequest } from './fuzz-requests.ts'
import { runFuzz } from './fuzz-run.ts'
import { startInference } from './inference-servers.ts'

test('the same seed makes the same requests, most of them wrong', () => {
  const requests = (seed: number) => {
    const chance = new Chance(seed)
    return Array.from({ length: 500 }, () => nextRequest(chance))
  }
  expect(requests(1)).toEqual(requests(1))
  expect(requests(1)).not.toEqual(requests(2))
  const wrong = requests(3).filter((request) => !judge(request).has(Code.OK))
  expect(wrong.length).toBeGreaterThan(300)
})

test('right requests are judged to be right', () => {
  const chance = new Chance(1)
  for (let count = 0; count < 200; count++) {
    const bytes = toBinary(ModelInferRequestSchema, goodRequest(chance).request)
    expect(judge(bytes)).toEqual(new Set([Code.OK]))
  }
  const wrong = [
    [10, 2, 255, 254],
    [8, 1],
    [0x2a, 2, 10, 5],
    [0x2a, 3, 0x1a, 1, 0x80],
  ]
  for (const bytes of wrong) expect(judge(Buffer.from(bytes))).toEqual(new Set([Code.INVALID_ARGUMENT]))
  const unknown = toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, { modelName: 'nope' }))
  expect(judge(unknown)).toEqual(new Set([Code.NOT_FOUND]))
})

test('5,000 malformed requests are each answered as they must be, and the server is right afterwards', async () => {
  const { servers, stop } = await startInference(FUZZ_MODEL, fuzzModel(), { fuzzed: {} })
  try {
    const { address } = servers.fuzzed
    const result = await runFuzz({ address, malformed: 5000, connections: 4, callers: 32, seed: 1 })
    expect(result.examples).toEqual([])
    expect(result).toMatchObject({ surprises: 0, lost: 0 })
    expect(result.answers.INVALID_ARGUMENT).toBeGreaterThan(4000)
    expect(result.right).toBe(result.checked)
  } finally {
    await stop()
  }
}, 120_000)
