import { join } from 'node:path'
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { consume, type EventBus, openEmbeddedBus, type Topic, topics } from '@slipway/events'
import { ModelInferRequestSchema, ModelInferResponseSchema } from '@slipway/proto/inference/grpc_service'
import { Code } from '@slipway/rpc'
import { afterEach, describe, expect, test } from 'vitest'
import { readFeatureRows } from './oip-features.ts'
import { planVersion } from './plan.ts'
import { startTestRouter, type TestRouter } from './router.fixture.ts'
import { isSampled } from './sampling.ts'
import { testVersion } from './upstreams.fixture.ts'

let router: TestRouter
let bus: EventBus | undefined
afterEach(async () => {
  await bus?.close()
  bus = undefined
  await router.stop()
})

const name = 'endpoints/flight-delay'
const double = (value: number) => ({ kind: { case: 'doubleValue' as const, value } })
const route = (value: string) => ({ route: { kind: { case: 'stringValue' as const, value } } })

async function startWithEndpoint(rates: {
  predictionSamplingRate?: number
  requestSamplingRate?: number
}): Promise<void> {
  router = await startTestRouter()
  const variants = [
    { name: 'champion', target: 'models/flights/versions/1', weightBasisPoints: 7_500 },
    { name: 'canary', target: 'models/flights/versions/2', weightBasisPoints: 2_500 },
  ]
  await router.routing.createEndpoint({ endpoint: { name, variants, ...rates } })
}

/** Everything published in a topic so far, once `count` messages are there. */
async function published<S extends DescMessage>(topic: Topic<S>, count: number): Promise<MessageShape<S>[]> {
  bus ??= openEmbeddedBus({ path: join(router.dataDirectory, 'events.db') })
  const messages: MessageShape<S>[] = []
  const subscription = await consume(bus, topic, {
    group: `test-${Math.random()}`,
    handle: async (events) => void messages.push(...events.map(({ message }) => message)),
  })
  await expect.poll(() => messages.length, { timeout: 10_000 }).toBeGreaterThanOrEqual(count)
  await subscription.caughtUp()
  await subscription.stop()
  return messages
}

describe('what is logged', () => {
  test('a prediction is logged with everything by which it can be judged and repeated', async () => {
    await startWithEndpoint({})
    const eventTime = timestampFromMs(Date.parse('2001-03-01T12:34:56.789Z'))
    const instance = {
      features: { distance: double(100) },
      entityKeys: route('SEA-SFO'),
      predictionId: 'flight-0001',
      eventTime,
    }
    const { predictions } = await router.predictions.predict({
      endpoint: name,
      instances: [instance],
      routingKey: 'SEA',
    })
    const [logged] = await published(topics.predictions, 1)
    const version = predictions[0]?.variant === 'canary' ? 2 : 1
    expect(logged).toMatchObject({
      predictionId: 'flight-0001',
      endpoint: name,
      variant: predictions[0]?.variant,
      modelVersion: `models/flights/versions/${version}`,
      digest: testVersion(version).digest,
      propensity: version === 2 ? 0.25 : 0.75,
      samplingRate: 1,
      eventTime,
      featureStatuses: [1, 3, 1],
      doubles: [100, 0.25],
      int64s: [0n],
      strings: [],
      featureTimesMicros: [0n, 0n, 1_000_000_000_000_001n],
      outputs: [predictions[0]?.outputs.probability, version],
    })
    const { stages, bucket } = logged ?? {}
    expect(bucket).toBeLessThan(10_000)
    expect(stages?.total).toBeGreaterThanOrEqual((stages?.features ?? 0) + (stages?.inference ?? 0))
    expect(stages?.features).toBeGreaterThan(0)
  })

  test('exactly the sampled predictions are logged, the same ones when a call is repeated', async () => {
    await startWithEndpoint({ predictionSamplingRate: 0.3 })
    const ids = Array.from({ length: 200 }, (_, index) => `flight-${index}`)
    const instances = ids.map((predictionId) => ({
      features: { distance: double(1), hour: double(1), mean_delay: double(1) },
      predictionId,
    }))
    await router.predictions.predict({ endpoint: name, instances })
    await router.predictions.predict({ endpoint: name, instances })
    const expected = ids.filter((id) => isSampled(id, 0.3))
    const logged = await published(topics.predictions, expected.length * 2)
    expect(logged.map((each) => each.predictionId).toSorted()).toEqual([...expected, ...expected].toSorted())
    expect(logged.every((each) => each.samplingRate === 0.3)).toBe(true)
  })

  test('a request of the Open Inference Protocol is kept byte for byte with its answer or its failure', async () => {
    await startWithEndpoint({ requestSamplingRate: 1 })
    const request = (id: string, first: number) => {
      const raw = Buffer.alloc(12)
      raw.writeFloatLE(first)
      const inputs = [{ name: 'x', datatype: 'FP32', shape: [1n, 3n] }]
      return { modelName: 'flight-delay', id, inputs, rawInputContents: [raw] }
    }
    await router.oip.modelInfer(request('request-good', 5))
    await router.oip.modelInfer(request('request-bad', -5)).catch(() => undefined)
    const sampled = await published(topics.requests, 2)
    const good = sampled.find((each) => each.predictionId === 'request-good')
    const bad = sampled.find((each) => each.predictionId === 'request-bad')
    expect(fromBinary(ModelInferRequestSchema, good?.request ?? new Uint8Array())).toMatchObject({
      modelName: 'flight-delay',
      id: 'request-good',
    })
    const answer = fromBinary(ModelInferResponseSchema, good?.response ?? new Uint8Array())
    expect(Buffer.from(answer.rawOutputContents[0] ?? []).readFloatLE()).toBe(5)
    expect(bad).toMatchObject({ code: Code.INVALID_ARGUMENT, response: new Uint8Array(), samplingRate: 1 })
  })

  test('rows of the Open Inference Protocol are logged as predictions, from raw and from typed tensors', async () => {
    await startWithEndpoint({})
    const values = [100, 7, 0.25, 200, 8, Number.NaN]
    const shape = [2n, 3n]
    const raw = Buffer.from(new Float32Array(values).buffer)
    const inputs = [{ name: 'x', datatype: 'FP32', shape }]
    await router.oip.modelInfer({ modelName: 'flight-delay', id: 'request-raw', inputs, rawInputContents: [raw] })
    const logged = await published(topics.predictions, 2)
    const rows = logged.toSorted((a, b) => a.predictionId.localeCompare(b.predictionId))
    expect(rows.map((each) => each.predictionId)).toEqual(['request-raw:0', 'request-raw:1'])
    expect(rows[0]).toMatchObject({ featureStatuses: [1, 1, 1], doubles: [100, 0.25], int64s: [7n], samplingRate: 1 })
    expect(rows[1]).toMatchObject({ featureStatuses: [1, 1, 2], doubles: [200, Number.NaN], int64s: [8n] })
    expect(rows[0]?.outputs[0]).toBe(350)
    const typed = [{ name: 'x', datatype: 'FP32', shape: [1n, 3n], contents: { fp32Contents: [5, 6, 7] } }]
    const request = create(ModelInferRequestSchema, { modelName: 'flight-delay', inputs: typed })
    const planned = planVersion(testVersion(1))
    if ('problem' in planned) throw new Error(planned.problem)
    const bytes = Buffer.from(toBinary(ModelInferRequestSchema, request))
    expect(readFeatureRows(bytes, planned.plan)?.map((row) => row.values)).toEqual([[5, 6, 7]])
    expect(readFeatureRows(Buffer.alloc(0), planned.plan)).toBeUndefined()
  })

  test('feedback arrives once a call, under an id that follows from the prediction, and is checked', async () => {
    await startWithEndpoint({})
    const eventTime = timestampFromMs(Date.parse('2001-03-02T00:00:00Z'))
    const feedback = [
      { predictionId: 'flight-0001', outcome: { case: 'label' as const, value: 1 }, eventTime },
      { predictionId: 'flight-0001', outcome: { case: 'reward' as const, value: -0.5 } },
      { predictionId: 'flight-0002', outcome: { case: 'label' as const, value: 0 }, feedbackId: 'feedback-2' },
    ]
    expect(await router.predictions.recordFeedback({ endpoint: name, feedback })).toMatchObject({ recordedCount: 3 })
    const recorded = await published(topics.feedback, 3)
    expect(recorded.map((each) => each.feedbackId).toSorted()).toEqual([
      'feedback-2',
      'flight-0001:label',
      'flight-0001:reward',
    ])
    expect(recorded.find((each) => each.feedbackId === 'flight-0001:label')).toMatchObject({
      endpoint: name,
      eventTime,
      outcome: { case: 'label', value: 1 },
    })
    const missing = router.predictions.recordFeedback({ endpoint: name, feedback: [{ predictionId: 'flight-0001' }] })
    await expect(missing).rejects.toMatchObject({ code: Code.INVALID_ARGUMENT })
    const unknown = router.predictions.recordFeedback({ endpoint: 'endpoints/other', feedback })
    await expect(unknown).rejects.toMatchObject({ code: Code.NOT_FOUND })
  })
})
