import { identityModel } from '@slipway/onnx'
import { Code } from '@slipway/rpc'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { WorkBatch } from './batcher.ts'
import { ModelTable } from './model-table.ts'
import type { Servable } from './servable.ts'
import { MAX_BATCH_SIZES, Statistics, VersionStatistics } from './statistics.ts'
import { serve, type TestServer } from './testing.ts'

let server: TestServer
beforeAll(async () => {
  server = await serve([
    { model: 'a', number: '1', bytes: identityModel('FP32') },
    { model: 'a', number: '2', bytes: identityModel('FP32') },
    { model: 'b', bytes: identityModel('FP32') },
  ])
})
afterAll(() => server.stop())

const ask = (modelVersion: string, rows: number, bytes = 4 * rows) =>
  server.client.modelInfer({
    modelName: 'a',
    modelVersion,
    inputs: [{ name: 'input', datatype: 'FP32', shape: [BigInt(rows)] }],
    rawInputContents: [Buffer.alloc(bytes)],
  })

test('what happened to requests is counted by version, in requests, rows and batches', async () => {
  const before = BigInt(Date.now())
  for (const rows of [2, 2, 3]) await ask('2', rows)
  await expect(ask('2', 2, 7)).rejects.toMatchObject({ code: Code.INVALID_ARGUMENT })
  const { modelStats } = await server.client.modelStatistics({ name: 'a' })
  expect(modelStats.map(({ name, version }) => [name, version])).toEqual([
    ['a', '1'],
    ['a', '2'],
  ])
  const [unused, used] = modelStats
  expect(unused).toMatchObject({
    lastInference: 0n,
    inferenceCount: 0n,
    executionCount: 0n,
    inferenceStats: { success: { count: 0n, ns: 0n } },
    batchStats: [],
  })
  expect(used?.lastInference).toBeGreaterThanOrEqual(before)
  expect(used).toMatchObject({
    inferenceCount: 7n,
    executionCount: 3n,
    inferenceStats: {
      success: { count: 3n },
      fail: { count: 1n },
      queue: { count: 3n },
      computeInput: { count: 3n },
      computeInfer: { count: 3n },
      computeOutput: { count: 3n },
    },
    batchStats: [
      { batchSize: 2n, computeInfer: { count: 2n } },
      { batchSize: 3n, computeInfer: { count: 1n } },
    ],
  })
  const { success, queue, computeInput, computeInfer, computeOutput } = used?.inferenceStats ?? {}
  const parts = [queue, computeInput, computeInfer, computeOutput].map((stage) => stage?.ns ?? 0n)
  for (const part of parts) expect(part).toBeGreaterThanOrEqual(0n)
  expect(computeInfer?.ns).toBeGreaterThan(0n)
  expect(success?.ns).toBeGreaterThan(computeInfer?.ns ?? 0n)
  expect(used?.memoryUsage).toMatchObject([{ type: 'CPU' }])
})

test('without a name all models are told of, and what is not there is NOT_FOUND', async () => {
  const { modelStats } = await server.client.modelStatistics({})
  expect(modelStats.map(({ name, version }) => `${name}/${version}`)).toEqual(['a/1', 'a/2', 'b/1'])
  for (const question of [{ name: 'nope' }, { name: 'a', version: '3' }, { version: '1' }]) {
    await expect(server.client.modelStatistics(question)).rejects.toMatchObject({ code: Code.NOT_FOUND })
  }
})

test('a version that is let go and loaded again goes on counting, one that was taken off begins anew', async () => {
  const served = await server.add({ model: 'c', bytes: identityModel('FP32') })
  server.statistics.of(served).answered(performance.now())
  expect((await server.client.modelStatistics({ name: 'c' })).modelStats[0]?.inferenceStats?.success?.count).toBe(1n)
  server.models.set('c', '1', { kind: 'unloaded', unloadedTimeMs: 0 })
  expect((await server.client.modelStatistics({ name: 'c' })).modelStats[0]).toMatchObject({
    inferenceStats: { success: { count: 1n } },
    memoryUsage: [],
  })
  const back = await server.add({ model: 'c', bytes: identityModel('FP32') })
  expect((await server.client.modelStatistics({ name: 'c' })).modelStats[0]?.inferenceStats?.success?.count).toBe(1n)
  server.models.set('c', '1', undefined)
  await expect(server.client.modelStatistics({ name: 'c' })).rejects.toMatchObject({ code: Code.NOT_FOUND })
  const again = await server.add({ model: 'c', bytes: identityModel('FP32') })
  expect((await server.client.modelStatistics({ name: 'c' })).modelStats[0]?.inferenceStats?.success?.count).toBe(0n)
  server.models.set('c', '1', undefined)
  await Promise.all([served.close(), back.close(), again.close()])
})

test('what a version does to warm up is not counted, the first time and when it is loaded again', async () => {
  const counts = async () => (await server.client.modelStatistics({ name: 'w' })).modelStats[0]
  const load = () => server.add({ model: 'w', bytes: identityModel('FP32') })
  const first = await load()
  expect(await counts()).toMatchObject({ inferenceCount: 0n, executionCount: 0n })
  server.models.set('w', '1', { kind: 'unloaded', unloadedTimeMs: 0 })
  const second = await load()
  expect(await counts()).toMatchObject({ inferenceCount: 0n, executionCount: 0n, batchStats: [] })
  await Promise.all([first.close(), second.close()])
})

test('hits and misses of the cache go on when a version is loaded again', () => {
  const models = new ModelTable()
  const statistics = new Statistics(models)
  const load = (cacheHits: number, cacheMisses: number) => {
    const counts = { cacheHits, cacheMisses }
    const served = { name: 'models/c/versions/1', digest: 'sha256:1', counts } as unknown as Servable
    models.set('c', '1', { kind: 'ready', served, readyTimeMs: 0 })
  }
  load(3, 2)
  models.set('c', '1', { kind: 'unloaded', unloadedTimeMs: 0 })
  load(1, 4)
  expect(statistics.describe({ name: 'c', version: '1' }).modelStats?.[0]).toMatchObject({
    inferenceStats: { cacheHit: { count: 4n }, cacheMiss: { count: 6n } },
  })
})

test('sizes of batches are bounded; the totals go on', () => {
  const counted = new VersionStatistics()
  for (let rows = 1; rows <= MAX_BATCH_SIZES + 10; rows++) {
    const batch = { members: [{ arrivedMs: 0 }], rows, dispatchedMs: 1 } as unknown as WorkBatch
    counted.batch(batch, { outputs: [], computeMicros: 500 })
  }
  expect(counted.batches.size).toBe(MAX_BATCH_SIZES)
  expect(counted.executions).toBe(MAX_BATCH_SIZES + 10)
})
