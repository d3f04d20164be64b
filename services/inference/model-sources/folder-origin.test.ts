import { mkdir, mkdtemp, rename, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { exampleFiles } from '@slipway/models'
import { mlpModel } from '@slipway/onnx'
import { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import { LoadState, ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { type Client, Code, createClient } from '@slipway/rpc'
import type { RunningService } from '@slipway/service'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { start } from '../main.ts'

/** A model that answers a number of its own, whatever it is asked. */
const model = (answer: number) =>
  mlpModel({ layers: [{ inputs: 2, outputs: 1, weights: [0, 0], bias: [answer] }], sigmoid: false })
const LONG_AGO = new Date(Date.now() - 60_000)

let root: string
let directory: string
let service: RunningService | undefined
let inference: Client<typeof GRPCInferenceService>
let control: Client<typeof ModelControlService>

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'slipway-folder-'))
  directory = join(root, 'models')
  await mkdir(directory)
})
afterEach(async () => {
  inference?.close()
  control?.close()
  await service?.stop()
  service = undefined
  await rm(root, { recursive: true, force: true })
})

/** Puts a file there as if it had been there for long. */
async function put(path: string, bytes: Uint8Array): Promise<void> {
  const target = join(directory, path)
  await mkdir(dirname(target), { recursive: true })
  await writeFile(`${target}.tmp`, bytes)
  await utimes(`${target}.tmp`, LONG_AGO, LONG_AGO)
  await rename(`${target}.tmp`, target)
}

async function open(env: Readonly<Record<string, string>> = {}): Promise<void> {
  service = await start({
    SLIPWAY_DATA_DIR: join(root, 'data'),
    SLIPWAY_LISTEN: '127.0.0.1:0',
    SLIPWAY_INFERENCE_HTTP_LISTEN: 'off',
    SLIPWAY_INFERENCE_MODEL_DIRECTORY: directory,
    SLIPWAY_INFERENCE_MODEL_POLL: '20ms',
    SLIPWAY_LOG_LEVEL: 'off',
    ...env,
  })
  inference = createClient(GRPCInferenceService, { address: service.address })
  control = createClient(ModelControlService, { address: service.address })
}

async function ask(name = 'm', modelVersion = ''): Promise<{ readonly score: number; readonly version: string }> {
  const answer = await inference.modelInfer({
    modelName: name,
    modelVersion,
    inputs: [{ name: 'features', datatype: 'FP32', shape: [1n, 2n] }],
    rawInputContents: [Buffer.alloc(8)],
  })
  return { score: Buffer.from(answer.rawOutputContents[0] ?? []).readFloatLE(), version: answer.modelVersion }
}
const becomes = (expected: number, name = 'm', version = '') =>
  expect.poll(async () => (await ask(name, version).catch(() => undefined))?.score, { timeout: 20_000 }).toBe(expected)
const listed = async () => (await control.listLoadedVersions({})).versions.map(({ name, state }) => [name, state])

describe('a folder of models', () => {
  test('is served without a registry: the highest number of each model, by names that Triton takes', async () => {
    await put('m/1/model.onnx', model(1))
    await put('m/10/model.onnx', model(10))
    await put('M_odel.v2/3/model.onnx', model(3))
    await put('m/config.pbtxt', Buffer.from('name: "m"'))
    await open()
    await becomes(10)
    await becomes(3, 'M_odel.v2')
    await expect(ask('m', '1')).rejects.toMatchObject({ code: Code.NOT_FOUND })
    const { versions } = await control.listLoadedVersions({})
    expect(versions.map(({ name }) => name)).toEqual(['models/M_odel.v2/versions/3', 'models/m/versions/10'])
    expect(versions.every(({ digest }) => /^sha256:[0-9a-f]{64}$/.test(digest))).toBe(true)
  })

  test('is served with all its versions when asked to', async () => {
    await put('m/1/model.onnx', model(1))
    await put('m/2/model.onnx', model(2))
    await open({ SLIPWAY_INFERENCE_MODEL_VERSIONS: 'all' })
    await becomes(2)
    await becomes(1, 'm', '1')
  })

  test('is followed under load: a new version answers before the old one goes, and no request fails', async () => {
    await put('m/1/model.onnx', model(1))
    await open()
    await becomes(1)
    let isOver = false
    const seen = new Set<string>()
    const callers = Array.from({ length: 4 }, async () => {
      while (!isOver) {
        const { score, version } = await ask()
        expect(String(score)).toBe(version)
        seen.add(version)
      }
    })
    for (const number of [2, 3]) {
      await put(`m/${number}/model.onnx`, model(number))
      await becomes(number)
    }
    isOver = true
    await Promise.all(callers)
    expect([...seen]).toEqual(['1', '2', '3'])
    await expect.poll(listed).toEqual([['models/m/versions/3', LoadState.READY]])
  })

  test('with a broken new version goes on with the old one; and takes it when it is mended', async () => {
    await put('m/1/model.onnx', model(1))
    await open()
    await becomes(1)
    await put('m/2/model.onnx', model(2).subarray(0, 50))
    await expect.poll(listed, { timeout: 10_000 }).toContainEqual(['models/m/versions/2', LoadState.FAILED])
    expect((await ask()).version).toBe('1')
    await put('m/2/model.onnx', model(2))
    await becomes(2)
  })

  test('answers with what is copied over a version, and lets go what is removed', async () => {
    await put('m/1/model.onnx', model(1))
    await put('n/1/model.onnx', model(7))
    await open()
    await becomes(1)
    await put('m/1/model.onnx', model(5))
    await becomes(5)
    await rm(join(directory, 'n'), { recursive: true })
    await expect.poll(() => ask('n').catch(({ code }) => code)).toBe(Code.NOT_FOUND)
    expect((await ask()).score).toBe(5)
  })

  test('leaves alone what is still being copied', async () => {
    await put('m/1/model.onnx', model(1))
    await open()
    await becomes(1)
    const growing = join(directory, 'm/2/model.onnx')
    await mkdir(dirname(growing))
    const bytes = model(2)
    for (const end of [10, 60, bytes.length]) {
      await writeFile(growing, bytes.subarray(0, end))
      await put('n/1/model.onnx', model(end))
      await becomes(end, 'n')
      expect(await listed()).toContainEqual(['models/m/versions/1', LoadState.READY])
      expect((await listed()).map(([name]) => name)).not.toContain('models/m/versions/2')
    }
    await utimes(growing, LONG_AGO, LONG_AGO)
    await becomes(2)
  })

  test('loads and unloads models by name', async () => {
    await put('m/1/model.onnx', model(1))
    await put('m/2/model.onnx', model(2))
    await open()
    await becomes(2)
    await inference.repositoryModelUnload({ modelName: 'm' })
    await expect(ask()).rejects.toMatchObject({ code: Code.NOT_FOUND })
    await expect(inference.repositoryModelUnload({ modelName: 'x' })).rejects.toMatchObject({ code: Code.NOT_FOUND })
    await inference.repositoryModelLoad({ modelName: 'm' })
    expect((await ask()).score).toBe(2)
    await control.loadVersion({ name: 'models/m/versions/1' })
    expect((await ask('m', '1')).score).toBe(1)
  })

  test('refuses a version that answers its example otherwise than was recorded, and says where and by how much', async () => {
    const input = { name: 'features', datatype: 'FP32', shape: [2, 2], data: [1, 2, 3, 4] }
    const output = (...data: number[]) => ({ name: 'probability', datatype: 'FP32', shape: [2, 1], data })
    const example = async (number: number, outputs: readonly number[], tolerance = {}) => {
      const files = exampleFiles({ inputs: [input], outputs: [output(...outputs)], tolerance })
      for (const [path, bytes] of Object.entries(files)) await put(`m/${number}/${path}`, bytes)
      await put(`m/${number}/model.onnx`, model(number))
    }
    await example(1, [1, 1.0001])
    await example(2, [2, 3])
    await example(3, [3, 4], { relative: 0.5 })
    await open({ SLIPWAY_INFERENCE_MODEL_VERSIONS: 'all' })
    await becomes(3)
    await becomes(1, 'm', '1')
    await expect(ask('m', '2')).rejects.toMatchObject({
      code: Code.FAILED_PRECONDITION,
      reason: 'EXAMPLE_MISMATCH',
      metadata: { output: 'probability', element: '1', difference: '1', relative_tolerance: '0.001' },
      message: expect.stringMatching(/element 1 of output 'probability': it is off by 1$/),
    })
  })

  test('that is none, or holds nothing, is a setting that is wrong', async () => {
    const message = (path: string) =>
      open({ SLIPWAY_INFERENCE_MODEL_DIRECTORY: path, SLIPWAY_INFERENCE_MODEL_POLL: '0s' })
    await expect(message(join(root, 'nowhere'))).rejects.toThrow('is not there')
    await expect(message(directory)).rejects.toThrow('holds no model, such as my-model/1/model.onnx')
    await put('m/1/model.onnx', model(1))
    await expect(message(join(directory, 'm/1/model.onnx'))).rejects.toThrow('is a file, not a folder of models')
    await expect(message(join(directory, 'm'))).rejects.toThrow('give the folder above')
    await put('bad name/1/model.onnx', model(1))
    await put('o/2', Buffer.from('a file'))
    await rm(join(directory, 'm'), { recursive: true })
    await expect(message(directory)).rejects.toThrow(
      /bad name: a model's name has.*o\/2: is a file where a folder should be/,
    )
  })
})
