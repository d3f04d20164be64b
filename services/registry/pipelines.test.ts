import { registerVersion } from '@slipway/models'
import { mlpModel, randomLayers } from '@slipway/onnx'
import { FeatureSource, FeatureType } from '@slipway/proto/slipway/registry/v1/model'
import { Code } from '@slipway/rpc'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createModel, createVersion, model, startTestRegistry, type TestRegistry } from './test-registry.ts'

let registry: TestRegistry
beforeAll(async () => {
  registry = await startTestRegistry()
  await createModel(registry)
  await createModel(registry, 'scored')
})
afterAll(() => registry.stop())

const scaling = {
  name: 'scale',
  expressions: {
    outputs: [
      { name: 'x', datatype: 'FP32', shape: [-1, 2], expression: '[input.distance / 500.0, input.hour / 24.0]' },
    ],
  },
}
const inputs = ['distance', 'hour'].map((name) => ({ name, datatype: 'FP32', shape: [-1] }))
const outputs = [{ name: 'late', tensor: 'score.probability' }]

function pipeline(modelStep: object, change: object = {}): Uint8Array {
  const score = { name: 'score', model: { inputs: { features: 'scale.x' }, ...modelStep } }
  return Buffer.from(JSON.stringify({ inputs, steps: [scaling, score], outputs, ...change }))
}

const register = (files: Readonly<Record<string, Uint8Array>>, declared = {}) =>
  registerVersion(registry.client, { parent: 'models/scored', files, ...declared })

describe('a version that is a pipeline', () => {
  test('is registered with the signature that its steps give, and features bind to its inputs', async () => {
    const features = inputs.map(({ name }) => {
      return { feature: name, type: FeatureType.DOUBLE, source: FeatureSource.REQUEST, input: name, column: 0 }
    })
    const version = await register(
      { 'pipeline.json': pipeline({ file: 'steps/score.onnx' }), 'steps/score.onnx': model() },
      { features },
    )
    expect(version.signature).toMatchObject({
      inputs: inputs.map(({ name }) => ({ name, datatype: 'FP32', shape: [-1n] })),
      outputs: [{ name: 'late', datatype: 'FP32', shape: [-1n, 1n] }],
    })
    expect(version.outputs).toMatchObject([{ output: 'late', tensor: 'late', column: 0 }])
    expect(version.digest).toMatch(/^sha256:/)
  })

  test('may pin a version of another model, by its digest', async () => {
    const { name, digest } = await createVersion(registry)
    const version = await register({ 'pipeline.json': pipeline({ version: { name, digest } }) })
    expect(version.signature?.outputs).toMatchObject([{ name: 'late' }])
    const other = `sha256:${'0'.repeat(64)}`
    await expect(register({ 'pipeline.json': pipeline({ version: { name, digest: other } }) })).rejects.toMatchObject({
      code: Code.INVALID_ARGUMENT,
      reason: 'DIGEST_MISMATCH',
      violations: [{ field: 'files[0].steps[1].model.version.digest' }],
    })
    const absent = { name: 'models/flight-delay/versions/999', digest }
    await expect(register({ 'pipeline.json': pipeline({ version: absent }) })).rejects.toMatchObject({
      code: Code.INVALID_ARGUMENT,
      violations: [{ field: 'files[0].steps[1].model.version.name', description: `there is no ${absent.name}` }],
    })
  })

  test('may pin a pipeline', async () => {
    const inner = await register({
      'pipeline.json': pipeline({ file: 'steps/score.onnx' }),
      'steps/score.onnx': model(),
    })
    const steps = [
      {
        name: 'inner',
        model: {
          version: { name: inner.name, digest: inner.digest },
          inputs: { distance: 'input.distance', hour: 'input.hour' },
        },
      },
    ]
    const outer = { inputs, steps, outputs: [{ name: 'late', tensor: 'inner.late' }] }
    const version = await register({ 'pipeline.json': Buffer.from(JSON.stringify(outer)) })
    expect(version.signature?.outputs).toMatchObject([{ name: 'late', datatype: 'FP32' }])
  })

  test('is refused with every problem, by its place in the file', async () => {
    const wide = mlpModel({ layers: randomLayers([3, 1], 1) })
    const files = {
      'pipeline.json': pipeline({ file: 'steps/score.onnx' }, { outputs: [{ name: 'late', tensor: 'scale.y' }] }),
      'steps/score.onnx': wide,
    }
    await expect(register(files)).rejects.toMatchObject({
      code: Code.INVALID_ARGUMENT,
      reason: 'INVALID_PIPELINE',
      violations: [
        {
          field: 'files[0].steps[1].model.inputs.features',
          description: "step 'score': takes FP32[-1, 3], but 'scale.x' is FP32[-1, 2]",
        },
        { field: 'files[0].outputs[0].tensor', description: "there is no tensor 'scale.y'" },
      ],
    })
  })

  test('is refused without the model of a step, and beside a model.onnx', async () => {
    await expect(register({ 'pipeline.json': pipeline({ file: 'steps/score.onnx' }) })).rejects.toMatchObject({
      violations: [{ description: "step 'score': there is no steps/score.onnx" }],
    })
    const both = { 'pipeline.json': pipeline({ file: 'steps/score.onnx' }), 'model.onnx': model() }
    await expect(register(both)).rejects.toMatchObject({
      violations: [{ field: 'files', description: 'must contain model.onnx or pipeline.json, not both' }],
    })
  })
})
