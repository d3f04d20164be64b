import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { ConfigError } from '@slipway/config'
import { mlpModel } from '@slipway/onnx'
import { GRPCInferenceService, type ModelInferResponse } from '@slipway/proto/inference/grpc_service'
import { LoadState, ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { type Client, Code, createClient } from '@slipway/rpc'
import type { RunningService } from '@slipway/service'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type FakeRegistry, startFakeRegistry } from './fake-registry.ts'
import { start } from './main.ts'

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
  directory = await mkdtemp(join(tmpdir(), 'slipway-inference-'))
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
    SLIPWAY_REGISTRY_ADDRESS: registry.address,
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

const ask = (modelVersion = ''): Promise<ModelInferResponse> =>
  inference.modelInfer({
    modelName: 'm',
    modelVersion,
    inputs: [{ name: 'features', datatype: 'FP32', shape: [1n, 2n] }],
    rawInputContents: [Buffer.alloc(8)],
  })
const scoreOf = ({ rawOutputContents: [raw] }: ModelInferResponse) => Buffer.from(raw ?? []).readFloatLE()
const answers = async (modelVersion = '') => scoreOf(await ask(modelVersion))
const becomes = (expected: number) =>
  expect.poll(() => answers().catch(() => undefined), { timeout: 20_000 }).toBe(expected)

describe('the inference service', () => {
  test('loads a version on request, and says which digest it is', async () => {
    const { name, digest } = registry.addVersion(version(1), model(1))
    await open()
    await expect(ask()).rejects.toMatchObject({ code: Code.NOT_FOUND })
    expect(await control.loadVersion({ name, digest })).toMatchObject({ name, digest, state: LoadState.READY })
    const answer = await ask()
    expect([scoreOf(answer), answer.modelVersion]).toEqual([1, '1'])
    expect(answer.parameters.slipway_digest?.parameterChoice.value).toBe(digest)
    expect(await control.listLoadedVersions({})).toMatchObject({ versions: [{ name, digest, state: LoadState.READY }] })
  })

  test('refuses a version whose content is not what its digest says, and one of another digest than was asked for', async () => {
    registry.addVersion(version(1), model(1), model(2))
    const good = registry.addVersion(version(2), model(2))
    await open()
    await expect(control.loadVersion({ name: version(1) })).rejects.toMatchObject({
      code: Code.DATA_LOSS,
      reason: 'DIGEST_MISMATCH',
    })
    await expect(ask('1')).rejects.toMatchObject({ reason: 'DIGEST_MISMATCH' })
    const other = `sha256:${'0'.repeat(64)}`
    await expect(control.loadVersion({ name: good.name, digest: other })).rejects.toMatchObject({
      code: Code.FAILED_PRECONDITION,
    })
  })

  test('refuses a version of which the registry says something else than its digest was taken of', async () => {
    const { name, files } = registry.addVersion(version(1), model(1))
    const [file] = files
    if (file) file.path = 'other.onnx'
    await open()
    await expect(control.loadVersion({ name })).rejects.toMatchObject({
      code: Code.DATA_LOSS,
      reason: 'DIGEST_MISMATCH',
    })
  })

  test('refuses a version that is no model, and one that the runtime refuses', async () => {
    registry.addVersion(version(1), Buffer.from('not a model'))
    await open()
    const load = control.loadVersion({ name: version(1) })
    await expect(load).rejects.toMatchObject({
      code: Code.FAILED_PRECONDITION,
      message: expect.stringMatching(/failed to load 'm'/),
    })
    await expect(control.loadVersion({ name: version(9) })).rejects.toMatchObject({ code: Code.NOT_FOUND })
  })

  test('follows the champion, and swaps it under load without a failed request', async () => {
    registry.addVersion(version(1), model(1))
    registry.setAlias(CHAMPION, version(1))
    await open({ SLIPWAY_INFERENCE_IDLE: '1ms' })
    await becomes(1)
    const seen = new Set<string>()
    let isOver = false
    const callers = Array.from({ length: 8 }, async () => {
      while (!isOver) {
        const answer = await ask()
        expect(String(scoreOf(answer))).toBe(answer.modelVersion)
        seen.add(answer.modelVersion)
      }
    })
    for (let number = 2; number <= 6; number++) {
      registry.addVersion(version(number), model(number))
      registry.setAlias(CHAMPION, version(number))
      await becomes(number)
    }
    isOver = true
    await Promise.all(callers)
    expect([...seen].sort()).toEqual(['1', '2', '3', '4', '5', '6'])
    await expect
      .poll(async () => (await control.listLoadedVersions({})).versions.map(({ name }) => name))
      .toEqual([version(6)])
  })

  test('loads only where an alias points now, whatever its history', async () => {
    for (let number = 1; number <= 20; number++) {
      registry.addVersion(version(number), model(number))
      registry.setAlias(CHAMPION, version(number))
    }
    await open()
    await becomes(20)
    expect(registry.downloads).toHaveLength(1)
  })

  test('keeps the champion that answers when the next one cannot be loaded', async () => {
    registry.addVersion(version(1), model(1))
    registry.setAlias(CHAMPION, version(1))
    await open({ SLIPWAY_INFERENCE_IDLE: '1ms' })
    await becomes(1)
    registry.addVersion(version(2), Buffer.from('not a model'))
    registry.setAlias(CHAMPION, version(2))
    await expect
      .poll(async () => (await control.listLoadedVersions({})).versions.map(({ state }) => state))
      .toContain(LoadState.FAILED)
    expect(await answers()).toBe(1)
  })

  test('serves again after a restart without the registry, from its own disk', async () => {
    registry.addVersion(version(1), model(1))
    registry.addVersion(version(2), model(2))
    registry.setAlias(CHAMPION, version(1))
    await open()
    await becomes(1)
    await control.loadVersion({ name: version(2) })
    await stop()
    await registry.stop()
    await open({ SLIPWAY_REGISTRY_ADDRESS: '127.0.0.1:1' })
    await becomes(1)
    await expect.poll(() => answers('2').catch(() => undefined)).toBe(2)
    registry = await startFakeRegistry()
  })

  test('goes on while the registry is away, and catches up when it is back', async () => {
    registry.addVersion(version(1), model(1))
    registry.setAlias(CHAMPION, version(1))
    await open()
    await becomes(1)
    const port = Number(registry.address.split(':')[1])
    await registry.stop()
    expect(await answers()).toBe(1)
    registry = await startFakeRegistry(port)
    registry.addVersion(version(1), model(1))
    registry.addVersion(version(2), model(2))
    registry.setAlias(CHAMPION, version(2))
    await becomes(2)
  })

  test('serves again after kill -9, what it had said was loaded included', async () => {
    const { name } = registry.addVersion(version(1), model(1))
    const env = {
      SLIPWAY_DATA_DIR: directory,
      SLIPWAY_LISTEN: '127.0.0.1:0',
      SLIPWAY_REGISTRY_ADDRESS: registry.address,
    }
    const child = spawn(process.execPath, [fileURLToPath(new URL('./main.ts', import.meta.url))], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const [line] = await once(createInterface(child.stderr), 'line')
    const { address } = JSON.parse(String(line)) as { address: string }
    const remote = createClient(ModelControlService, { address })
    expect(await remote.loadVersion({ name })).toMatchObject({ state: LoadState.READY })
    child.kill('SIGKILL')
    remote.close()
    await once(child, 'exit')
    await registry.stop()
    await open({ SLIPWAY_REGISTRY_ADDRESS: '127.0.0.1:1' })
    await becomes(1)
    registry = await startFakeRegistry()
  })

  test('lets a version go on request, but not one that an alias points to', async () => {
    registry.addVersion(version(1), model(1))
    registry.addVersion(version(2), model(2))
    registry.setAlias(CHAMPION, version(1))
    await open()
    await becomes(1)
    await control.loadVersion({ name: version(2) })
    await control.unloadVersion({ name: version(2) })
    await expect(ask('2')).rejects.toMatchObject({ code: Code.NOT_FOUND })
    await expect(control.unloadVersion({ name: version(1) })).rejects.toMatchObject({ code: Code.FAILED_PRECONDITION })
    expect(await answers()).toBe(1)
  })

  test('says all that is wrong with its settings at once', async () => {
    const wrong = open({ SLIPWAY_LISTEN: 'nowhere', SLIPWAY_INFERENCE_THREADS: '0', SLIPWAY_INFERENCE_IDLE: 'long' })
    await expect(wrong).rejects.toThrow(ConfigError)
    for (const name of ['SLIPWAY_LISTEN', 'SLIPWAY_INFERENCE_THREADS', 'SLIPWAY_INFERENCE_IDLE']) {
      await expect(wrong).rejects.toThrow(name)
    }
  })
})
