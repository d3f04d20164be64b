import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mlpModel } from '@slipway/onnx'
import { ModelControlService } from '@slipway/proto/slipway/inference/v1/model_control_service'
import { createClient } from '@slipway/rpc'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type FakeRegistry, startFakeRegistry } from '../fake-registry.ts'
import { start } from '../main.ts'
import { eventually } from './http-server.fixture.ts'

const model = mlpModel({ layers: [{ inputs: 2, outputs: 1, weights: [0, 0], bias: [7] }], sigmoid: false })
const name = 'models/m/versions/1'

let directory: string
let registry: FakeRegistry
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'slipway-inference-http-'))
  registry = await startFakeRegistry()
})
afterEach(async () => {
  await registry.stop()
  await rm(directory, { recursive: true, force: true })
})

const open = (env: Readonly<Record<string, string>> = {}) =>
  start({
    SLIPWAY_DATA_DIR: directory,
    SLIPWAY_LISTEN: '127.0.0.1:0',
    SLIPWAY_REGISTRY_ADDRESS: registry.address,
    SLIPWAY_LOG_LEVEL: 'off',
    ...env,
  })

test('the service answers over HTTP beside gRPC, is ready when it is, and neither answers after it stopped', async () => {
  const { digest } = registry.addVersion(name, model)
  const service = await open()
  const control = createClient(ModelControlService, { address: service.address })
  const url = `http://${service.httpAddress}/v2`
  try {
    await control.loadVersion({ name, digest })
    await eventually(async () => (await fetch(`${url}/health/ready`)).status).toBe(200)
    const inputs = [{ name: 'features', datatype: 'FP32', shape: [1, 2], data: [1, 2] }]
    const answer = await fetch(`${url}/models/m/infer`, { method: 'POST', body: JSON.stringify({ inputs }) })
    expect(await answer.json()).toMatchObject({
      model_version: '1',
      parameters: { slipway_digest: digest },
      outputs: [{ data: [7] }],
    })
  } finally {
    control.close()
    await service.stop()
  }
  await expect(fetch(url)).rejects.toThrow()
})

test('HTTP may be off', async () => {
  const service = await open({ SLIPWAY_INFERENCE_HTTP_LISTEN: 'off' })
  expect(service.httpAddress).toBe('off')
  await service.stop()
})

test('a port that is taken is told of with the setting that says otherwise', async () => {
  const one = await open()
  const other = open({ SLIPWAY_DATA_DIR: join(directory, 'other'), SLIPWAY_INFERENCE_HTTP_LISTEN: one.httpAddress })
  await expect(other).rejects.toThrow(/SLIPWAY_INFERENCE_HTTP_LISTEN.*EADDRINUSE/)
  await one.stop()
})
