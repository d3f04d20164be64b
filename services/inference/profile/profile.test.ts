import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, toBinary } from '@bufbuild/protobuf'
import { openEmbeddedBus, publishTo, topics } from '@slipway/events'
import { type Datatype, identityModel, mlpModel, randomLayers } from '@slipway/onnx'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { ProfileService } from '@slipway/proto/slipway/inference/v1/profile_service'
import { type Client, Code, createClient, createServer, implement, type RpcServer } from '@slipway/rpc'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { StartExecutor } from '../executors/executor.ts'
import { createThreadExecutor } from '../executors/thread-executor.ts'
import { predict } from '../local-predictions.ts'
import { heldVersions, pipelineFiles } from '../pipelines/pipeline.fixture.ts'
import { runOptions, startVersion } from '../testing.ts'
import { ThreadBudget } from '../thread-budget.ts'
import { generateLoad } from './generated-load.ts'
import { createProfile } from './profile.ts'
import { createProfileService, type Profile, type ProfileServiceOptions } from './service.ts'
import type { Setting } from './sweep.ts'

const name = 'models/mlp/versions/1'
const bytes = mlpModel({ layers: randomLayers([8, 16, 1], 1) })
const digest = `sha256:${'0'.repeat(64)}`
const stored: { readonly name: string; readonly digest: string; readonly profile: Profile }[] = []
const started: Setting[] = []
let alive = 0
let folder: string
let server: RpcServer
let client: Client<typeof ProfileService>

const options: Omit<ProfileServiceOptions, 'bus'> = {
  threads: 2,
  start: async (_, setting) => {
    started.push(setting)
    const { executors, intraOpThreads, maxBatchRows } = setting
    const run = runOptions({ budget: new ThreadBudget(2), executorsPerVersion: executors, intraOpThreads })
    const version = await startVersion({ model: 'mlp', bytes }, { ...run, limits: { ...run.limits, maxBatchRows } })
    alive++
    const close = version.close.bind(version)
    version.close = async () => {
      alive--
      await close()
    }
    return version
  },
  store: async (version, of, profile) => void stored.push({ name: version, digest: of, profile }),
}
let bus: ReturnType<typeof openEmbeddedBus>

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'slipway-profile-'))
  bus = openEmbeddedBus({ path: join(folder, 'events.db') })
  server = createServer({
    implementations: [implement(ProfileService, createProfileService({ ...options, bus }))],
    listen: { host: '127.0.0.1', port: 0 },
  })
  const { address } = await server.start()
  client = createClient(ProfileService, { address })
})
afterAll(async () => {
  client.close()
  await server.drain({ graceMs: 100 })
  await bus.close()
  await rm(folder, { recursive: true })
})

async function collect<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const one of stream) all.push(one)
  return all
}

const quick = { measureTime: { nanos: 40_000_000 } }

test('a profile measures each setting under each load, and ends with what is best', async () => {
  const small = {
    ...quick,
    name,
    executors: [1],
    intraOpThreads: [1],
    maxBatchRows: [1, 64],
    concurrency: [1, 32],
    store: true,
  }
  const answers = await collect(client.profileVersion(small))
  expect(answers.map(({ pointsDone, pointsTotal }) => `${pointsDone}/${pointsTotal}`)).toEqual([
    ...['1/4', '2/4', '3/4', '4/4'],
    '4/4',
  ])
  const found = answers.at(-1)?.profile
  expect(found?.points).toHaveLength(4)
  for (const point of found?.points ?? []) {
    expect(point.rowsPerSecond).toBeGreaterThan(0)
    expect(point.p99Ms).toBeGreaterThanOrEqual(point.p50Ms)
    expect(point.failed).toBe(0n)
    expect(point.memoryBytes).toBeGreaterThan(0n)
  }
  const unbatched = found?.points.find(({ setting, concurrency }) => setting?.maxBatchRows === 1 && concurrency === 32)
  const batched = found?.points.find(({ setting, concurrency }) => setting?.maxBatchRows === 64 && concurrency === 32)
  expect(unbatched?.meanBatchRows).toBe(1)
  expect(batched?.meanBatchRows).toBeGreaterThan(2)
  expect(found?.points.some(({ pareto }) => pareto)).toBe(true)
  expect(found?.recommended).toBeDefined()
  expect(stored).toHaveLength(1)
  expect(stored[0]).toMatchObject({ name, digest })
  expect(started).toHaveLength(2)
  expect(alive).toBe(0)
})

test('a pipeline is profiled with its own models under each setting; what it pins runs as it does for everybody', async () => {
  const pinned = await startVersion({ model: 'mlp', bytes }, runOptions())
  const { hold, holds } = heldVersions(pinned)
  const pipeline = {
    inputs: [{ name: 'distance', datatype: 'FP32', shape: [-1] }],
    steps: [
      {
        name: 'spread',
        expressions: {
          outputs: [
            {
              name: 'features',
              datatype: 'FP32',
              shape: [-1, 8],
              expression: '[0, 1, 2, 3, 4, 5, 6, 7].map(i, input.distance)',
            },
          ],
        },
      },
      { name: 'first', model: { file: 'steps/first.onnx', inputs: { features: 'spread.features' } } },
      { name: 'second', model: { version: { name: pinned.name, digest }, inputs: { features: 'spread.features' } } },
    ],
    outputs: [
      { name: 'first', tensor: 'first.probability' },
      { name: 'second', tensor: 'second.probability' },
    ],
  }
  const files = async () => pipelineFiles(pipeline, { 'steps/first.onnx': bytes })
  const threads: number[] = []
  const startExecutor: StartExecutor = async (options) => {
    threads.push(options.intraOpThreads)
    return await createThreadExecutor()(options)
  }
  const run = runOptions({ startExecutor })
  const profile = createProfile({ run, threads: 2, files, hold, registry: undefined, bus: undefined })
  const apart = createServer({ implementations: [profile], listen: { host: '127.0.0.1', port: 0 } })
  const { address } = await apart.start()
  const asking = createClient(ProfileService, { address })
  const settled = { ...quick, executors: [1], intraOpThreads: [1, 2], maxBatchRows: [16], concurrency: [4] }
  const answers = await collect(asking.profileVersion({ ...settled, name: 'models/pipeline/versions/1', store: false }))
  const points = answers.at(-1)?.profile?.points ?? []
  expect(points.map(({ setting, failed }) => [setting?.intraOpThreads, failed])).toEqual([
    [1, 0n],
    [2, 0n],
  ])
  for (const { rowsPerSecond } of points) expect(rowsPerSecond).toBeGreaterThan(0)
  expect(threads).toEqual([1, 2])
  expect(holds.get(pinned.name)).toBe(0)
  asking.close()
  await apart.drain({ graceMs: 100 })
  await pinned.close()
})

test('what is wrong is refused by its field before anything runs', async () => {
  const before = started.length
  const failureOf = (request: Parameters<typeof client.profileVersion>[0]) =>
    collect(client.profileVersion(request)).then(
      () => 'measured',
      (failure: { code: number; violations: { field: string }[] }) => [failure.code, failure.violations[0]?.field],
    )
  expect(await failureOf({ name: 'mlp' })).toEqual([Code.INVALID_ARGUMENT, 'name'])
  expect(await failureOf({ name, executors: [0] })).toEqual([Code.INVALID_ARGUMENT, 'executors[0]'])
  expect(await failureOf({ name, executors: [3] })).toEqual([Code.INVALID_ARGUMENT, 'executors'])
  expect(await failureOf({ name, measureTime: { seconds: 61n } })).toEqual([Code.INVALID_ARGUMENT, 'measure_time'])
  expect(started.length).toBe(before)
})

test('one profile runs at a time, and one whose caller goes is given up', async () => {
  const caller = new AbortController()
  const long = client.profileVersion({ ...quick, name, measureTime: { seconds: 60n } }, { signal: caller.signal })
  const first = collect(long).catch((failure: { code: number }) => failure.code)
  const waiting = async () => alive === 1
  while (!(await waiting())) await new Promise((resolve) => setTimeout(resolve, 5))
  const second = collect(client.profileVersion({ ...quick, name }))
  await expect(second).rejects.toMatchObject({ code: Code.RESOURCE_EXHAUSTED, reason: 'PROFILE_RUNS' })
  caller.abort()
  expect(await first).toBe(Code.CANCELLED)
  while (alive > 0) await new Promise((resolve) => setTimeout(resolve, 5))
})

describe('recorded requests', () => {
  const request = (columns: number) =>
    toBinary(
      ModelInferRequestSchema,
      create(ModelInferRequestSchema, {
        modelName: 'endpoint',
        inputs: [{ name: 'features', datatype: 'FP32', shape: [3n, BigInt(columns)] }],
        rawInputContents: [Buffer.alloc(12 * columns)],
      }),
    )
  const recorded = (endpoint: string) => ({
    ...quick,
    name,
    ...{ executors: [1], intraOpThreads: [1], maxBatchRows: [16], concurrency: [4] },
    load: { case: 'recorded' as const, value: { endpoint } },
  })

  test('of an endpoint are what is sent', async () => {
    const sampled = { predictionId: 'p', endpoint: 'endpoints/one', request: request(8) }
    await publishTo(bus, topics.requests, [sampled, { ...sampled, endpoint: 'endpoints/other', request: request(2) }])
    const answers = await collect(client.profileVersion(recorded('endpoints/one')))
    expect(answers.at(-1)?.profile?.load).toBe('1 requests of endpoints/one')
    const point = answers[0]?.point
    expect((point?.rowsPerSecond ?? 0) / (point?.requestsPerSecond ?? 1)).toBeCloseTo(3)
  })

  test('that the version does not answer are refused, and so is an endpoint without any', async () => {
    const unfit = collect(client.profileVersion(recorded('endpoints/other')))
    await expect(unfit).rejects.toMatchObject({ code: Code.INVALID_ARGUMENT })
    const nobody = collect(client.profileVersion(recorded('endpoints/nobody')))
    await expect(nobody).rejects.toMatchObject({ code: Code.FAILED_PRECONDITION, reason: 'NO_RECORDED_REQUESTS' })
    expect(alive).toBe(0)
  })
})

test.each<Datatype>([
  'BOOL',
  'UINT8',
  'INT8',
  'UINT16',
  'INT16',
  'UINT32',
  'INT32',
  'UINT64',
  'INT64',
  'FP16',
  'FP32',
  'FP64',
  'BYTES',
])('generated requests of %s are taken by a model, and are the same for the same seed', async (datatype) => {
  const version = await startVersion({ model: 'identity', bytes: identityModel(datatype, [-1, -1, 2]) }, runOptions())
  const like = { rows: 3, dynamicSize: 4, seed: 7n }
  const load = generateLoad(version.signature, like)
  expect(load[0]?.[0]?.shape).toEqual([3, 4, 2])
  expect(await predict(version, { inputs: load[0] ?? [] })).toMatchObject([{ bytes: load[0]?.[0]?.bytes }])
  expect(generateLoad(version.signature, like)).toEqual(load)
  expect(generateLoad(version.signature, { ...like, seed: 8n })).not.toEqual(load)
  await version.close()
})
