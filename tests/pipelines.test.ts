import { create, toBinary } from '@bufbuild/protobuf'
import { runGate, type Slipway } from '@slipway/client'
import { bytesSource, registerVersion, uploadFile } from '@slipway/models'
import { mlpModel, randomLayers } from '@slipway/onnx'
import { FeatureSource, FeatureType, GoldenSetSchema } from '@slipway/proto/slipway/registry/v1/model'
import { expect, test } from 'vitest'
import { withSystem } from './in-process.fixture.ts'

const model = 'models/delay'
const endpoint = 'endpoints/delay'

/** Four flights, as callers name them. */
function goldenSet(): Uint8Array {
  const texts = ['AA', 'UA', 'AA', 'UA'].flatMap((code) => [Buffer.of(2, 0, 0, 0), Buffer.from(code)])
  const inputs = [
    { name: 'distance', datatype: 'FP32', shape: [4n], raw: Buffer.from(Float32Array.of(100, 700, 900, 2000).buffer) },
    { name: 'carrier', datatype: 'BYTES', shape: [4n], raw: Buffer.concat(texts) },
  ]
  return toBinary(GoldenSetSchema, create(GoldenSetSchema, { inputs, labels: [0, 1, 0, 1] }))
}

/** Registers a model, and a pipeline that pins it. */
async function register({ registry }: Slipway) {
  await registry.createModel({ model: { name: 'models/score' } })
  const files = { 'model.onnx': mlpModel({ layers: randomLayers([2, 4, 1], 1) }) }
  const { name, digest } = await registerVersion(registry, { parent: 'models/score', files })
  const golden = await uploadFile(registry, bytesSource(goldenSet()))
  await registry.createModel({ model: { name: model, gate: { goldenSetDigest: golden.digest } } })
  const features = {
    name: 'features',
    datatype: 'FP32',
    shape: [-1, 2],
    expression: '[(input.distance - 700.0) / 500.0, {"AA": 0.0, "UA": 1.0}[input.carrier]]',
  }
  const pipeline = {
    inputs: [
      { name: 'distance', datatype: 'FP32', shape: [-1] },
      { name: 'carrier', datatype: 'BYTES', shape: [-1] },
    ],
    steps: [
      { name: 'prepare', expressions: { outputs: [features] } },
      { name: 'score', model: { version: { name, digest }, inputs: { features: 'prepare.features' } } },
    ],
    outputs: [{ name: 'late', tensor: 'score.probability' }],
  }
  return await registerVersion(registry, {
    parent: model,
    files: { 'pipeline.json': Buffer.from(JSON.stringify(pipeline)) },
    features: [
      { feature: 'distance', type: FeatureType.DOUBLE, source: FeatureSource.REQUEST, input: 'distance', column: 0 },
      { feature: 'carrier', type: FeatureType.STRING, source: FeatureSource.REQUEST, input: 'carrier', column: 0 },
    ],
  })
}

test('a pipeline passes the gate, is deployed by its alias, and answers callers who know only its features', async () => {
  await withSystem(async ({ slipway }) => {
    const version = await register(slipway)
    const report = await runGate(slipway.registry, version.name)
    expect(report).toMatchObject({ passed: true, rows: 4n, candidateDigest: version.digest })
    await slipway.registry.setAlias({ name: `${model}/aliases/champion`, version: version.name })
    const variants = [{ name: 'champion', target: `${model}/aliases/champion`, weightBasisPoints: 10_000 }]
    await slipway.routing.createEndpoint({ endpoint: { name: endpoint, variants } })
    const ask = (distance: number, carrier: string) =>
      slipway.predictions.predict({
        endpoint,
        instances: [
          {
            features: {
              distance: { kind: { case: 'doubleValue', value: distance } },
              carrier: { kind: { case: 'stringValue', value: carrier } },
            },
          },
        ],
      })
    const { predictions } = await ask(1200, 'UA')
    expect(predictions[0]).toMatchObject({ modelVersion: version.name, digest: version.digest })
    expect(predictions[0]?.outputs.late).toBeGreaterThan(0)
    await expect(ask(1200, 'WN')).rejects.toMatchObject({
      reason: 'EXPRESSION_FAILED',
      message: expect.stringContaining("step 'prepare' failed"),
    })
  })
})
