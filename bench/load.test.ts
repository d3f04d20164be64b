import { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import { createServer, implementRawStream, implementRawUnary, type RpcServer } from '@slipway/rpc'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type LoadPlan, runLoad } from './load.ts'

const { modelInfer, modelStreamInfer } = GRPCInferenceService.method
let server: RpcServer
let address: string

beforeAll(async () => {
  server = createServer({
    implementations: [
      implementRawUnary(modelInfer, (request, call) => call.answer(request)),
      implementRawStream(modelStreamInfer, (stream) => stream.onMessage((message) => stream.write(message))),
    ],
    listen: { host: '127.0.0.1', port: 0 },
  })
  address = (await server.start()).address
})
afterAll(() => server.drain({ graceMs: 100 }))

const plan = (change: Partial<LoadPlan>): LoadPlan => ({
  address,
  path: `/inference.GRPCInferenceService/${change.kind === 'stream' ? 'ModelStreamInfer' : 'ModelInfer'}`,
  kind: 'unary',
  callers: 10,
  connections: 3,
  warmUpMs: 20,
  measureMs: 200,
  request: Buffer.from([0x12, 3, 1, 2, 3]).toString('base64'),
  ...change,
})

describe('the load generator', () => {
  test.each(['unary', 'stream'] as const)('counts what a server answers over %s calls', async (kind) => {
    const result = await runLoad(plan({ kind }), async () => {})
    expect(result.calls).toBeGreaterThan(10)
    expect(result.failed).toBe(0)
    expect(result.p50Ms).toBeGreaterThan(0)
    expect(result.p99Ms).toBeGreaterThanOrEqual(result.p50Ms)
  })

  test('tells failures from answers', async () => {
    const result = await runLoad(plan({ path: '/inference.GRPCInferenceService/Nothing' }), async () => {})
    expect(result.calls).toBeGreaterThan(0)
    expect(result.failed).toBe(result.calls)
  })

  test('refuses a request that is larger than a frame', async () => {
    const request = Buffer.alloc(20_000).toString('base64')
    await expect(runLoad(plan({ request }), async () => {})).rejects.toThrow('one frame')
  })

  test('waits for long answers that come in pieces', async () => {
    const request = Buffer.alloc(16_000, 7).toString('base64')
    const result = await runLoad(plan({ request, callers: 2, connections: 2 }), async () => {})
    expect(result.failed).toBe(0)
    expect(result.calls).toBeGreaterThan(0)
  })
})
