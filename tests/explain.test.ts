import { join } from 'node:path'
import type { Slipway } from '@slipway/client'
import { consume, openEmbeddedBus, topics } from '@slipway/events'
import { drawBackground, registerVersion } from '@slipway/models'
import { mlpModel, randomLayers } from '@slipway/onnx'
import type { PredictionLogged } from '@slipway/proto/slipway/events/v1/prediction'
import { AttributionMethod, Baseline } from '@slipway/proto/slipway/inference/v1/explain_service'
import type { ModelVersion } from '@slipway/proto/slipway/registry/v1/model'
import { expect, test } from 'vitest'
import { deployModel, endpoint, predictOnce } from './deployed-model.fixture.ts'
import { withSystem } from './in-process.fixture.ts'

/** The same model again, with rows to explain predictions with. */
async function registerWithBackground(
  { registry }: Slipway,
  { name, features, outputs, featureService }: ModelVersion,
) {
  const inputs = [{ name: 'features', datatype: 'FP32', shape: [-1n, 2n] }]
  const rows = Array.from({ length: 200 }, (_, row) => ({ timeMicros: 0n, values: { balance: row, amount: 2 * row } }))
  return await registerVersion(registry, {
    parent: name.split('/versions/')[0] ?? '',
    files: { 'model.onnx': mlpModel({ layers: randomLayers([2, 4, 1], 1) }) },
    background: await drawBackground({ inputs, features, rows, maxRows: 16, seed: 1 }),
    features,
    outputs,
    featureService,
  })
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)

test('a logged prediction says how much each feature moved it, and the numbers add up; asked again, it is the same', async () => {
  await withSystem(async ({ slipway, dataDir }) => {
    const bus = openEmbeddedBus({ path: join(dataDir, 'events.db') })
    const version = await deployModel(slipway)
    await slipway.routing.updateEndpoint({
      endpoint: { name: endpoint, explainSamplingRate: 1 },
      updateMask: { paths: ['explain_sampling_rate'] },
    })
    const prediction = await predictOnce(slipway, 'prediction-explained')
    let logged: PredictionLogged | undefined
    const subscription = await consume(bus, topics.predictions, {
      group: 'test-explain',
      handle: async (events) => {
        logged = events.map(({ message }) => message).find((each) => each.predictionId === 'prediction-explained')
      },
    })
    await expect.poll(() => logged !== undefined, { timeout: 30_000 }).toBe(true)
    await subscription.stop()
    await bus.close()
    expect(logged?.attributions.length).toBe(2)
    expect(logged?.explainSamplingRate).toBe(1)
    const explained = sum(logged?.attributions ?? []) + (logged?.attributionBaseValue ?? 0)
    expect(explained).toBeCloseTo(prediction?.outputs.probability ?? Number.NaN, 6)

    const double = (value: number) => ({ kind: { case: 'doubleValue' as const, value } })
    const values = { balance: double(900), amount: double(120) }
    const answer = await slipway.explanations.explain({
      model: 'credit',
      rows: { case: 'features', value: { rows: [{ values }] } },
    })
    expect(answer).toMatchObject({
      modelVersion: version.name,
      digest: version.digest,
      output: 'probability',
      features: ['balance', 'amount'],
      baseline: Baseline.MARGINALS,
    })
    const [explanation] = answer.explanations
    expect(explanation?.method).toBe(AttributionMethod.EXACT)
    for (const [index, value] of (logged?.attributions ?? []).entries())
      expect(explanation?.attributions[index]).toBeCloseTo(value, 6)
    const second = await registerWithBackground(slipway, version)
    await slipway.modelControl.loadVersion({ name: second.name })
    const against = await slipway.explanations.explain({
      model: 'credit',
      version: '2',
      rows: { case: 'features', value: { rows: [{ values }] } },
    })
    expect(against).toMatchObject({ digest: second.digest, baseline: Baseline.ROWS, backgroundRows: 16 })
    const total = against.baseValue + sum(against.explanations[0]?.attributions ?? [])
    expect(total).toBeCloseTo(against.explanations[0]?.prediction ?? Number.NaN, 6)

    const report = async () => (await slipway.drift.getReport({ name: 'monitors/credit' })).predictions
    await expect.poll(report, { timeout: 30_000 }).toBeGreaterThanOrEqual(1n)
  })
}, 90_000)
