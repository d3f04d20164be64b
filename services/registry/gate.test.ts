import { create, toBinary } from '@bufbuild/protobuf'
import { bytesSource, uploadFile } from '@slipway/models'
import { GateState, GoldenSetSchema, Metric } from '@slipway/proto/slipway/registry/v1/model'
import { Code, Failure } from '@slipway/rpc'
import { afterEach, beforeEach, expect, test } from 'vitest'
import {
  createModel,
  createPassedVersion,
  createVersion,
  failureOf,
  runGate,
  startTestRegistry,
  type TestRegistry,
} from './test-registry.ts'

const champion = 'models/flight-delay/aliases/champion'

let registry: TestRegistry

beforeEach(async () => {
  registry = await startTestRegistry({ SLIPWAY_REGISTRY_GATE_ROWS: '4', SLIPWAY_REGISTRY_GATE_RUNS: '1' })
})

afterEach(async () => {
  await registry.stop()
})

async function gateState(name: string): Promise<GateState> {
  return (await registry.client.getVersion({ name })).gateState
}

test('candidate and champion answer the same rows, and the report is bound to both digests and the golden set', async () => {
  const model = await createModel(registry, undefined, {
    tolerances: { maxAbsoluteDifference: 0.2 },
    metrics: [{ metric: Metric.AUC, bound: 0.9, margin: 0.01 }],
  })
  const first = await createPassedVersion(registry)
  await registry.client.setAlias({ name: champion, version: first.name })
  const second = await createVersion(registry, undefined, 2)
  registry.inference.scores.set('2', (value) => value / 10 + 0.1)
  registry.inference.callRows.length = 0
  const stages: string[] = []
  let percent = 0
  for await (const message of registry.client.runGate({ name: second.name })) {
    expect(message.percent).toBeGreaterThanOrEqual(percent)
    percent = message.percent
    stages.push(message.stage)
  }
  expect(percent).toBe(100)
  expect(stages).toContain(`${second.name} answers 8/10`)
  expect(registry.inference.callRows).toEqual([4, 4, 2, 4, 4, 2])
  const { gateReport } = await registry.client.getVersion({ name: second.name })
  expect(gateReport).toMatchObject({
    candidateDigest: second.digest,
    championDigest: first.digest,
    goldenSetDigest: model.gate?.goldenSetDigest,
    rows: 10n,
    passed: true,
  })
  expect(gateReport?.checks.map(({ rule }) => rule)).toEqual([
    'finite_answer_share >= 1',
    'max_absolute_difference <= 0.2',
    'auc >= 0.9',
    'auc >= champion - 0.01',
  ])
})

test('a candidate that differs by more than is tolerated fails, and the newest report decides', async () => {
  await createModel(registry, undefined, { tolerances: { changedDecisionShare: 0.1 } })
  const first = await createPassedVersion(registry)
  await registry.client.setAlias({ name: champion, version: first.name })
  const second = await createPassedVersion(registry, undefined, 2)
  registry.inference.scores.set('2', (value) => 1 - value / 10)
  expect(await runGate(registry, second.name)).toMatchObject({ passed: false })
  expect(await gateState(second.name)).toBe(GateState.FAILED)
  registry.inference.scores.delete('2')
  expect(await runGate(registry, second.name)).toMatchObject({ passed: true })
})

test('a candidate that cannot be loaded has failed, and the report says why', async () => {
  await createModel(registry)
  const version = await createVersion(registry)
  const failure = new Failure(Code.FAILED_PRECONDITION, 'BAD_GRAPH', 'the graph has a loop')
  registry.inference.loadFailures.set(version.name, failure)
  expect(await runGate(registry, version.name)).toMatchObject({ passed: false, error: 'the graph has a loop' })
})

test('a champion that cannot answer is an error of the run, which leaves the version as it was', async () => {
  await createModel(registry)
  const first = await createPassedVersion(registry)
  await registry.client.setAlias({ name: champion, version: first.name })
  const second = await createVersion(registry, undefined, 2)
  registry.inference.loadFailures.set(first.name, new Failure(Code.FAILED_PRECONDITION, 'GONE', 'gone'))
  const failure = await failureOf(runGate(registry, second.name))
  expect(failure).toMatchObject({ code: Code.FAILED_PRECONDITION, reason: 'CHAMPION_DOES_NOT_ANSWER' })
  expect(await gateState(second.name)).toBe(GateState.PENDING)
})

test('while inference is away a run is UNAVAILABLE and leaves the version as it was', async () => {
  await createModel(registry)
  const version = await createVersion(registry)
  registry.inference.loadFailures.set(version.name, new Failure(Code.UNAVAILABLE, 'DRAINING', 'draining'))
  expect(await failureOf(runGate(registry, version.name))).toMatchObject({ code: Code.UNAVAILABLE })
  expect(await gateState(version.name)).toBe(GateState.PENDING)
})

test('a cancelled run leaves the version as it was and lets the next one begin', async () => {
  await createModel(registry)
  const version = await createVersion(registry)
  let answer = (): void => {}
  registry.inference.gate = new Promise((resolve) => {
    answer = resolve
  })
  const controller = new AbortController()
  const run = async () => {
    for await (const { stage } of registry.client.runGate({ name: version.name }, { signal: controller.signal })) {
      if (stage.startsWith('loading')) controller.abort()
    }
  }
  expect(await failureOf(run())).toMatchObject({ code: Code.CANCELLED })
  answer()
  expect(await gateState(version.name)).toBe(GateState.PENDING)
  await expect
    .poll(async () => await runGate(registry, version.name).catch(() => undefined))
    .toMatchObject({ passed: true })
})

test('a run whose champion moved meanwhile is ABORTED: its report would speak of another comparison', async () => {
  await createModel(registry)
  const first = await createPassedVersion(registry)
  const second = await createVersion(registry, undefined, 2)
  let answer = (): void => {}
  registry.inference.gate = new Promise((resolve) => {
    answer = resolve
  })
  const run = async () => {
    for await (const { stage } of registry.client.runGate({ name: second.name })) {
      if (!stage.startsWith('loading')) continue
      await registry.client.setAlias({ name: champion, version: first.name })
      answer()
    }
  }
  expect(await failureOf(run())).toMatchObject({ code: Code.ABORTED, reason: 'CHAMPION_MOVED' })
  expect(await gateState(second.name)).toBe(GateState.PENDING)
})

test('runs beyond the limit are RESOURCE_EXHAUSTED and say when to come again', async () => {
  await createModel(registry)
  const version = await createVersion(registry)
  let answer = (): void => {}
  registry.inference.gate = new Promise((resolve) => {
    answer = resolve
  })
  const refused: unknown[] = []
  for await (const { stage } of registry.client.runGate({ name: version.name })) {
    if (!stage.startsWith('loading')) continue
    refused.push(await failureOf(runGate(registry, version.name)))
    answer()
  }
  expect(refused).toMatchObject([{ code: Code.RESOURCE_EXHAUSTED, retryAfterMs: 1000 }])
})

test('a gate without a golden set passes nothing', async () => {
  await registry.client.createModel({ model: { name: 'models/flight-delay' } })
  const version = await createVersion(registry)
  expect(await failureOf(runGate(registry, version.name))).toMatchObject({ reason: 'GATE_NOT_SET' })
})

test('a golden set that lacks an input of the candidate fails it and says which', async () => {
  const inputs = [{ name: 'other', datatype: 'FP32', shape: [1n, 2n], raw: new Uint8Array(8) }]
  const golden = toBinary(GoldenSetSchema, create(GoldenSetSchema, { inputs }))
  const { digest } = await uploadFile(registry.client, bytesSource(golden))
  await registry.client.createModel({ model: { name: 'models/flight-delay', gate: { goldenSetDigest: digest } } })
  const version = await createVersion(registry)
  const report = await runGate(registry, version.name)
  expect(report.passed).toBe(false)
  expect(report.error).toContain('takes features as FP32 [-1, 2]')
})

test('a run that is under way when the registry stops is UNAVAILABLE, and can be made again', async () => {
  await createModel(registry)
  const version = await createVersion(registry)
  let answer = (): void => {}
  registry.inference.gate = new Promise((resolve) => {
    answer = resolve
  })
  const loading = Promise.withResolvers<void>()
  const run = async () => {
    for await (const { stage } of registry.client.runGate({ name: version.name })) {
      if (stage.startsWith('loading')) loading.resolve()
    }
  }
  const running = failureOf(run())
  await loading.promise
  const restarted = registry.restart()
  expect(await running).toMatchObject({ code: Code.UNAVAILABLE, reason: 'STOPPING' })
  answer()
  await restarted
  expect(await runGate(registry, version.name)).toMatchObject({ passed: true })
})
