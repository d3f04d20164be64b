/** A small model in production on a running Slipway: one stored feature, one that comes with the request. */
import { create, toBinary } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { runGate, type Slipway } from '@slipway/client'
import { buildReferenceDistributions, bytesSource, registerVersion, uploadFile } from '@slipway/models'
import { mlpModel, randomLayers } from '@slipway/onnx'
import { ValueType } from '@slipway/proto/slipway/features/v1/value'
import {
  FeatureSource,
  FeatureType,
  GoldenSetSchema,
  MissingPolicy,
  type ModelVersion,
} from '@slipway/proto/slipway/registry/v1/model'

/** The endpoint that answers afterwards. */
export const endpoint = 'endpoints/credit'
const model = 'models/credit'
const days = 40

/** Defines features, registers a version, deploys it behind `endpoint` and watches it. Gives the version. */
export async function deployModel(slipway: Slipway): Promise<ModelVersion> {
  await defineFeatures(slipway)
  await slipway.registry.createModel({ model: { name: model } })
  const golden = toBinary(GoldenSetSchema, create(GoldenSetSchema, { inputs: [goldenInput()], labels: [0, 1, 0, 1] }))
  const { digest } = await uploadFile(slipway.registry, bytesSource(golden))
  await slipway.registry.updateModel({ model: { name: model, gate: { goldenSetDigest: digest } } })
  const version = await registerCredit(slipway)
  const report = await runGate(slipway.registry, version.name)
  if (!report.passed) throw new Error(`the gate failed: ${report.error}`)
  const champion = `${model}/aliases/champion`
  await slipway.registry.setAlias({ name: champion, version: version.name })
  const variants = [{ name: 'champion', target: champion, weightBasisPoints: 10_000 }]
  await slipway.routing.createEndpoint({ endpoint: { name: endpoint, variants } })
  await slipway.drift.createMonitor({ monitor: { name: 'monitors/credit', endpoint } })
  return version
}

/** One prediction for customer 7. */
export async function predictOnce(slipway: Slipway, predictionId: string) {
  const { predictions } = await slipway.predictions.predict({
    endpoint,
    instances: [
      {
        predictionId,
        features: { amount: { kind: { case: 'doubleValue', value: 120 } } },
        entityKeys: { customer: { kind: { case: 'int64Value', value: 7n } } },
      },
    ],
  })
  return predictions[0]
}

async function defineFeatures({ features }: Slipway): Promise<void> {
  await features.createEntity({
    entity: { name: 'entities/customer', joinKey: 'customer', type: ValueType.INT64 },
  })
  const view = { name: 'featureViews/balances', entities: ['entities/customer'] }
  await features.createFeatureView({
    featureView: { ...view, features: [{ name: 'balance', type: ValueType.DOUBLE }] },
  })
  await features.createFeatureService({
    featureService: { name: 'featureServices/credit', features: ['balances:balance'] },
  })
  const { appliedCount } = await features.writeFeatures({
    rows: [
      {
        featureView: view.name,
        entityKeys: { customer: { kind: { case: 'int64Value', value: 7n } } },
        eventTime: timestampFromMs(Date.now() - 60_000),
        values: { balance: { kind: { case: 'doubleValue', value: 900 } } },
      },
    ],
  })
  if (appliedCount !== 1) throw new Error('the feature row was not applied')
}

function goldenInput() {
  const values = Float32Array.of(1, 10, 2, 20, 3, 30, 4, 40)
  return { name: 'features', datatype: 'FP32', shape: [4n, 2n], raw: new Uint8Array(values.buffer) }
}

async function registerCredit(slipway: Slipway): Promise<ModelVersion> {
  const features = [
    {
      feature: 'balance',
      type: FeatureType.DOUBLE,
      source: FeatureSource.FEATURE_STORE,
      reference: 'balances:balance',
      missingPolicy: MissingPolicy.NAN,
      input: 'features',
      column: 0,
    },
    {
      feature: 'amount',
      type: FeatureType.DOUBLE,
      source: FeatureSource.REQUEST,
      missingPolicy: MissingPolicy.REFUSE,
      input: 'features',
      column: 1,
    },
  ]
  const rows = Array.from({ length: days * 50 }, (_, row) => ({
    timeMicros: BigInt(Math.floor(row / 50)) * 86_400_000_000n,
    values: { balance: (row * 7919) % 1000, amount: (row * 104_729) % 500 },
  }))
  return await registerVersion(slipway.registry, {
    parent: model,
    files: { 'model.onnx': mlpModel({ layers: randomLayers([2, 4, 1], 1) }) },
    features,
    outputs: [{ output: 'probability', tensor: 'probability', column: 0 }],
    featureService: 'featureServices/credit',
    referenceDistributions: await buildReferenceDistributions({ features, rows }),
  })
}
