import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mlpModel, randomLayers } from '@slipway/onnx'
import { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import { LoadState, ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { type Client, Code, createClient } from '@slipway/rpc'
import type { RunningService } from '@slipway/service'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { start } from '../main.ts'

let folder: string
let running: RunningService
let control: Client<typeof ModelControlService>
let inference: Client<typeof GRPCInferenceService>

async function add(model: string, files: Readonly<Record<string, Uint8Array | string>>): Promise<void> {
  const version = join(folder, 'models', model, '1')
  await mkdir(version, { recursive: true })
  for (const [path, content] of Object.entries(files)) await writeFile(join(version, path), content)
}

/** Waits until a version is in a state. */
async function becomes(name: string, state: LoadState) {
  return await vi.waitUntil(
    async () => {
      const { versions } = await control.listLoadedVersions({})
      return versions.find((version) => version.name === name && version.state === state)
    },
    { timeout: 25_000 },
  )
}

function pinning(digest: string): string {
  const version = { name: 'models/score/versions/1', digest }
  return JSON.stringify({
    inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }],
    steps: [{ name: 'score', model: { version, inputs: { features: 'input.x' } } }],
    outputs: [{ name: 'y', tensor: 'score.probability' }],
  })
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'slipway-pinned-'))
  await add('score', { 'model.onnx': mlpModel({ layers: randomLayers([2, 1], 1) }) })
  running = await start({
    SLIPWAY_LISTEN: '127.0.0.1:0',
    SLIPWAY_INFERENCE_HTTP_LISTEN: 'off',
    SLIPWAY_DATA_DIR: join(folder, 'data'),
    SLIPWAY_INFERENCE_MODEL_DIRECTORY: join(folder, 'models'),
    SLIPWAY_INFERENCE_MODEL_POLL: '50ms',
    SLIPWAY_INFERENCE_EXECUTORS: '1',
    SLIPWAY_LOG_LEVEL: 'off',
  })
  control = createClient(ModelControlService, { address: running.address })
  inference = createClient(GRPCInferenceService, { address: running.address })
})

afterAll(async () => {
  control.close()
  inference.close()
  await running.stop()
  await rm(folder, { recursive: true, force: true })
})

test('a running server takes a pipeline, holds what it pins, and refuses one that pins another digest', async () => {
  const score = await becomes('models/score/versions/1', LoadState.READY)
  await add('pipeline', { 'pipeline.json': pinning(score.digest) })
  await add('wrong', { 'pipeline.json': pinning(`sha256:${'0'.repeat(64)}`) })
  await becomes('models/pipeline/versions/1', LoadState.READY)

  const answer = await inference.modelInfer({
    modelName: 'pipeline',
    inputs: [{ name: 'x', datatype: 'FP32', shape: [1n, 2n], contents: { fp32Contents: [1, 2] } }],
  })
  expect(answer.outputs).toMatchObject([{ name: 'y', shape: [1n, 1n] }])

  const wrong = await becomes('models/wrong/versions/1', LoadState.FAILED)
  expect(wrong.message).toContain(score.digest)
  await expect(control.unloadVersion({ name: 'models/score/versions/1' })).rejects.toMatchObject({
    code: Code.FAILED_PRECONDITION,
  })
})
