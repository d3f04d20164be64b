import { ConfigError, readSettings } from '@slipway/config'
import { identityModel, mlpModel, randomLayers } from '@slipway/onnx'
import { DataType } from '@slipway/proto/inference/model_config'
import { Code } from '@slipway/rpc'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeConfig } from './model-config.ts'
import { EXTENSIONS, readIdentity } from './model-metadata.ts'
import { serve, type TestServer } from './testing.ts'

let server: TestServer
beforeAll(async () => {
  server = await serve([
    { model: 'rows', bytes: mlpModel({ layers: randomLayers([16, 8, 1], 1) }) },
    { model: 'fixed', bytes: identityModel('BYTES', [2, 2]) },
    { model: 'scalar', bytes: identityModel('FP16', []) },
    { model: 'vector', bytes: identityModel('UINT8', [-1]) },
  ])
})
afterAll(() => server.stop())

test.each(['rows', 'fixed', 'scalar', 'vector'])(
  'metadata and configuration of %s agree as clients need it',
  async (name) => {
    const metadata = await server.client.modelMetadata({ name })
    const { config } = await server.client.modelConfig({ name })
    const rows = (config?.maxBatchSize ?? 0) > 0 ? [-1n] : []
    expect(config?.input.map((input) => [input.name, [...rows, ...input.dims]])).toEqual(
      metadata.inputs.map((input) => [input.name, input.shape]),
    )
    expect(config?.output.map((output) => [output.name, [...rows, ...output.dims]])).toEqual(
      metadata.outputs.map((output) => [output.name, output.shape]),
    )
  },
)

test('a configuration says how the model is run', async () => {
  const { config } = await server.client.modelConfig({ name: 'rows' })
  expect(config).toMatchObject({
    name: 'rows',
    platform: 'onnxruntime_onnx',
    backend: 'onnxruntime',
    maxBatchSize: 256,
    input: [{ name: 'features', dataType: DataType.TYPE_FP32, dims: [16n] }],
    output: [{ name: 'probability', dataType: DataType.TYPE_FP32, dims: [1n] }],
    instanceGroup: [{ count: 1 }],
    schedulingChoice: { case: 'dynamicBatching', value: { maxQueueDelayMicroseconds: 0n } },
    modelTransactionPolicy: { decoupled: false },
    responseCache: { enable: false },
  })
  const { config: fixed } = await server.client.modelConfig({ name: 'fixed', version: '1' })
  expect(fixed).toMatchObject({
    maxBatchSize: 0,
    input: [{ dataType: DataType.TYPE_STRING, dims: [2n, 2n] }],
    schedulingChoice: { case: undefined },
    versionPolicy: { policyChoice: { case: 'specific', value: { versions: [1n] } } },
  })
})

test('a configuration tells what is set for the model alone', async () => {
  const { config } = await describeConfig(
    server.models,
    { name: 'rows', version: '' },
    {
      maxBatchRows: 256,
      executorsPerVersion: 3,
      ofModel: (model) => ({ maxBatchRows: 64, delayMs: 1.5, preferredBatchRows: 8, keepsResponses: model === 'rows' }),
    },
  )
  expect(config).toMatchObject({
    maxBatchSize: 64,
    instanceGroup: [{ count: 3 }],
    schedulingChoice: { value: { maxQueueDelayMicroseconds: 1500n, preferredBatchSize: [8] } },
    responseCache: { enable: true },
  })
})

test('what is not there has neither', async () => {
  const missing = { name: 'nope' }
  await expect(server.client.modelMetadata(missing)).rejects.toMatchObject({ code: Code.NOT_FOUND })
  await expect(server.client.modelConfig(missing)).rejects.toMatchObject({ code: Code.NOT_FOUND })
  await expect(server.client.modelConfig({ name: 'rows', version: '2' })).rejects.toMatchObject({
    code: Code.NOT_FOUND,
  })
})

test('name, version and extensions are as set, and only what exists can be an extension', async () => {
  const read = (env: Readonly<Record<string, string>>) => readSettings(env, (reader) => readIdentity(reader, '1.2.3'))
  expect(read({})).toEqual({ name: 'slipway', version: '1.2.3' })
  expect(
    read({
      SLIPWAY_INFERENCE_SERVER_NAME: 'triton',
      SLIPWAY_INFERENCE_SERVER_VERSION: '2.51.0',
      SLIPWAY_INFERENCE_EXTENSIONS: 'statistics, model_repository(unload_dependents)',
    }),
  ).toEqual({
    name: 'triton',
    version: '2.51.0',
    extensions: ['statistics', 'model_repository(unload_dependents)'],
  })
  expect(() => read({ SLIPWAY_INFERENCE_EXTENSIONS: 'statistics,cuda_shared_memory' })).toThrow(ConfigError)
  expect((await server.client.serverMetadata({})).extensions).toEqual([...EXTENSIONS])
})
