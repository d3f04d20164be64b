import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { exampleFiles } from '@slipway/models'
import { mlpModel } from '@slipway/onnx'
import { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import { LoadedBy, LoadState, ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { type Client, Code, createClient } from '@slipway/rpc'
import type { RunningService } from '@slipway/service'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type FakeRegistry, startFakeRegistry } from '../fake-registry.ts'
import { start } from '../main.ts'

/** A model that answers a number of its own, whatever it is asked. */
const model = (answer: number) =>
  mlpModel({ layers: [{ inputs: 2, outputs: 1, weights: [0, 0], bias: [answer] }], sigmoid: false })
const version = (number: number) => `models/m/versions/${number}`
const CHAMPION = 'models/m/aliases/champion'

let directory: string
let registry: FakeRegistry
let service: RunningService | undefined
let inference: Client<typeof GRPCInferenceService>
let control: Client<typeof ModelControlService>

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'slipway-registry-origin-'))
  registry = await startFakeRegistry()
})
afterEach(async () => {
  await stop()
  await registry.stop()
  await rm(directory, { recursive: true, force: true })
})

async function open(env: Readonly<Record<string, string>> = {}): Promise<void> {
  service = await start({
    SLIPWAY_DATA_DIR: directory,
    SLIPWAY_LISTEN: '127.0.0.1:0',
    SLIPWAY_INFERENCE_HTTP_LISTEN: 'off',
    SLIPWAY_REGISTRY_ADDRESS: registry.address,
    SLIPWAY_INFERENCE_EXECUTORS: '1',
    SLIPWAY_LOG_LEVEL: 'off',
    ...env,
  })
  inference = createClient(GRPCInferenceService, { address: service.address })
  control = createClient(ModelControlService, { address: service.address })
}

async function stop(): Promise<void> {
  if (service === undefined) return
  inference.close()
  control.close()
  await service.stop()
  service = undefined
}

async function ask(modelVersion = ''): Promise<number> {
  const { rawOutputContents } = await inference.modelInfer(
    {
      modelName: 'm',
      modelVersion,
      inputs: [{ name: 'features', datatype: 'FP32', shape: [1n, 2n] }],
      rawInputContents: [Buffer.alloc(8)],
    },
    { timeoutMs: 20_000 },
  )
  return Buffer.from(rawOutputContents[0] ?? []).readFloatLE()
}
const becomes = (expected: number) =>
  expect.poll(() => ask().catch(() => undefined), { timeout: 20_000 }).toBe(expected)
const stateOf = async (number: number) =>
  (await control.listLoadedVersions({})).versions.find(({ name }) => name === version(number))?.state
const isUnloaded = (number: number) => expect.poll(() => stateOf(number), { timeout: 20_000 }).toBe(LoadState.UNLOADED)

describe('versions of a registry', () => {
  test('that are let go for want of callers stay listed, and come back for all who ask, without a failed request', async () => {
    registry.addVersion(version(1), model(1))
    registry.setAlias(CHAMPION, version(1))
    await open({ SLIPWAY_INFERENCE_IDLE: '1ms', SLIPWAY_INFERENCE_UNLOAD_ALIASED: 'true' })
    for (let round = 0; round < 3; round++) {
      await isUnloaded(1)
      const { models } = await inference.repositoryIndex({})
      expect(models).toMatchObject([{ name: 'm', version: '1', state: 'UNAVAILABLE', reason: 'unloaded' }])
      const answers = await Promise.all(Array.from({ length: 20 }, (_, caller) => ask(caller % 2 === 0 ? '' : '1')))
      expect(new Set(answers)).toEqual(new Set([1]))
    }
    expect(registry.downloads).toHaveLength(1)
  })

  test('that were let go before a restart are known after it, and come from disk while the registry is away', async () => {
    const { name, digest } = registry.addVersion(version(1), model(1))
    await open({ SLIPWAY_INFERENCE_IDLE: '1ms' })
    await control.loadVersion({ name, digest, loadedBy: LoadedBy.ENDPOINT })
    await isUnloaded(1)
    await stop()
    await registry.stop()
    await open({ SLIPWAY_REGISTRY_ADDRESS: '127.0.0.1:1' })
    expect(await stateOf(1)).toBe(LoadState.UNLOADED)
    expect(await ask('1')).toBe(1)
    registry = await startFakeRegistry()
  })

  test('take turns in memory that holds one of them, each for its callers', async () => {
    registry.addVersion(version(1), model(1))
    registry.addVersion(version(2), model(2))
    registry.setAlias(CHAMPION, version(1))
    await open({ SLIPWAY_INFERENCE_MAX_LOADED_BYTES: '15MiB' })
    await becomes(1)
    // What an alias points to does not give way to what somebody asks for, but while it has no callers to one who waits.
    await control.loadVersion({ name: version(2) }, { timeoutMs: 20_000 })
    await isUnloaded(1)
    expect(await ask()).toBe(1)
    await isUnloaded(2)
    expect(await ask('2')).toBe(2)
  })

  test('that need more memory than there is are refused, and say so', async () => {
    registry.addVersion(version(1), model(1))
    await open({ SLIPWAY_INFERENCE_MAX_LOADED_BYTES: '1MiB' })
    await expect(control.loadVersion({ name: version(1) })).rejects.toMatchObject({
      code: Code.RESOURCE_EXHAUSTED,
      reason: 'MEMORY_BUDGET',
    })
  })

  test('that answer their example otherwise than was recorded are refused; the champion before goes on', async () => {
    const example = (answer: number) =>
      exampleFiles({
        inputs: [{ name: 'features', datatype: 'FP32', shape: [1, 2], data: [1, 2] }],
        outputs: [{ name: 'probability', datatype: 'FP32', shape: [1, 1], data: [answer] }],
      })
    registry.addVersion(version(1), model(1), undefined, example(1))
    registry.addVersion(version(2), model(2), undefined, example(3))
    registry.setAlias(CHAMPION, version(1))
    await open()
    await becomes(1)
    registry.setAlias(CHAMPION, version(2))
    await expect.poll(() => stateOf(2), { timeout: 20_000 }).toBe(LoadState.FAILED)
    expect(await ask()).toBe(1)
    await expect(ask('2')).rejects.toMatchObject({ code: Code.FAILED_PRECONDITION, reason: 'EXAMPLE_MISMATCH' })
  })
})
