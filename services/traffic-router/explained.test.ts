import { join } from 'node:path'
import { consume, type EventBus, openEmbeddedBus, topics } from '@slipway/events'
import type { PredictionLogged } from '@slipway/proto/slipway/events/v1/prediction'
import { Code, Failure } from '@slipway/rpc'
import { afterEach, describe, expect, test } from 'vitest'
import { startTestRouter, type TestRouter } from './router.fixture.ts'
import { isSampled } from './sampling.ts'

let router: TestRouter
let bus: EventBus | undefined
afterEach(async () => {
  await bus?.close()
  bus = undefined
  await router.stop()
})

const name = 'endpoints/flight-delay'
const double = (value: number) => ({ kind: { case: 'doubleValue' as const, value } })
const instance = (predictionId: string, distance = 100) => ({
  features: { distance: double(distance), hour: double(7), mean_delay: double(0.25) },
  predictionId,
})

async function startWithEndpoint(explainSamplingRate: number, predictionSamplingRate = 1): Promise<void> {
  router = await startTestRouter()
  const variants = [{ name: 'champion', target: 'models/flights/versions/1', weightBasisPoints: 10_000 }]
  await router.routing.createEndpoint({ endpoint: { name, variants, explainSamplingRate, predictionSamplingRate } })
}

/** The log, by prediction id, once so many are there; the bus may bring a record twice. */
async function logged(count: number): Promise<PredictionLogged[]> {
  bus ??= openEmbeddedBus({ path: join(router.dataDirectory, 'events.db') })
  const messages = new Map<string, PredictionLogged>()
  const subscription = await consume(bus, topics.predictions, {
    group: `test-${Math.random()}`,
    handle: async (events) => {
      for (const { message } of events) messages.set(message.predictionId, message)
    },
  })
  await expect.poll(() => messages.size, { timeout: 20_000 }).toBeGreaterThanOrEqual(count)
  await subscription.caughtUp()
  await subscription.stop()
  return [...messages.values()].toSorted((a, b) => a.predictionId.localeCompare(b.predictionId))
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)

/** A promise that a test keeps back. */
function held() {
  let release = (): void => {}
  const promise = new Promise<void>((resolve) => {
    release = resolve
  })
  return { promise, release }
}

describe('predictions of an endpoint that explains', () => {
  test('are logged with attributions in the order of the bindings, which add up with the base value', async () => {
    await startWithEndpoint(1)
    await router.predictions.predict({
      endpoint: name,
      instances: [instance('flight-0001'), instance('flight-0002', 60)],
    })
    const [first, second] = await logged(2)
    expect(first).toMatchObject({ attributions: [101, 0, 250], attributionBaseValue: -1, explainSamplingRate: 1 })
    for (const each of [first, second])
      expect(sum(each?.attributions ?? []) + (each?.attributionBaseValue ?? 0)).toBeCloseTo(each?.outputs[0] ?? 0, 9)
    expect(router.inference.explained[0]).toMatchObject({
      model: 'flights',
      version: '1',
      options: { maxEvaluations: 16_384n },
    })
    const seeds = router.inference.explained.map(({ options }) => options?.seed)
    expect(new Set(seeds).size).toBe(2)
  })

  test('are answered before anybody asks why, and logged when the reply came', async () => {
    await startWithEndpoint(1)
    const { promise, release } = held()
    router.inference.holdExplanations = promise
    await router.predictions.predict({ endpoint: name, instances: [instance('flight-0001')] })
    await expect.poll(() => router.inference.explained.length).toBe(1)
    release()
    const [only] = await logged(1)
    expect(only?.attributions.length).toBe(3)
  })

  test('are logged without when they cannot be explained', async () => {
    await startWithEndpoint(1)
    router.inference.explanationFailure = new Failure(
      Code.FAILED_PRECONDITION,
      'NO_BASELINE',
      'nothing to compare with',
    )
    await router.predictions.predict({ endpoint: name, instances: [instance('flight-0001')] })
    const [only] = await logged(1)
    expect(only).toMatchObject({
      attributions: [],
      attributionBaseValue: 0,
      explainSamplingRate: 0,
      doubles: [100, 0.25],
    })
  })

  test('are all logged when the router stops meanwhile', async () => {
    await startWithEndpoint(1)
    const { promise, release } = held()
    router.inference.holdExplanations = promise
    const instances = Array.from({ length: 20 }, (_, index) => instance(`flight-${1000 + index}`))
    await router.predictions.predict({ endpoint: name, instances })
    await expect.poll(() => router.inference.explained.length).toBeGreaterThan(0)
    router = await router.restart()
    release()
    const all = await logged(20)
    expect(all.map(({ predictionId }) => predictionId)).toEqual(instances.map(({ predictionId }) => predictionId))
  })

  test('are explained by the same hash that samples the log, and only where they are logged', async () => {
    await startWithEndpoint(0.6, 0.3)
    const instances = Array.from({ length: 100 }, (_, index) => instance(`flight-${1000 + index}`))
    await router.predictions.predict({ endpoint: name, instances })
    const wanted = instances.map(({ predictionId }) => predictionId).filter((id) => isSampled(id, 0.3))
    const all = await logged(wanted.length)
    expect(all.map(({ predictionId }) => predictionId)).toEqual(wanted)
    expect(all.every(({ attributions }) => attributions.length === 3)).toBe(true)
    expect(router.inference.explained.length).toBe(wanted.length)
    const { endpoints } = await router.routing.listEndpoints({})
    const endpoint = { name, explainSamplingRate: 0.1 }
    await router.routing.updateEndpoint({ endpoint, updateMask: { paths: ['explain_sampling_rate'] } })
    await router.predictions.predict({
      endpoint: name,
      instances: instances.slice(0, 50).map((each) => ({ ...each, predictionId: `${each.predictionId}-b` })),
    })
    const ids = instances.slice(0, 50).map(({ predictionId }) => `${predictionId}-b`)
    const second = (await logged(wanted.length + ids.filter((id) => isSampled(id, 0.3)).length)).filter(
      ({ predictionId }) => predictionId.endsWith('-b'),
    )
    const explained = second
      .filter(({ attributions }) => attributions.length > 0)
      .map(({ predictionId }) => predictionId)
    expect(explained).toEqual(ids.filter((id) => isSampled(id, 0.1)))
    expect(endpoints[0]?.explainSamplingRate).toBe(0.6)
  })

  test('of the Open Inference Protocol are explained row by row', async () => {
    await startWithEndpoint(1)
    const raw = Buffer.from(new Float32Array([100, 7, 0.25, 200, 8, 0.5]).buffer)
    const inputs = [{ name: 'x', datatype: 'FP32', shape: [2n, 3n] }]
    await router.oip.modelInfer({ modelName: 'flight-delay', id: 'request-raw', inputs, rawInputContents: [raw] })
    const rows = await logged(2)
    expect(rows.map(({ attributions }) => attributions)).toEqual([
      [101, 0, 250],
      [201, 0, 500],
    ])
    expect(router.inference.explained.length).toBe(1)
  })

  test('are not explained unless the endpoint asks for it', async () => {
    await startWithEndpoint(0)
    await router.predictions.predict({ endpoint: name, instances: [instance('flight-0001')] })
    const [only] = await logged(1)
    expect(only).toMatchObject({ attributions: [], explainSamplingRate: 0 })
    expect(router.inference.explained.length).toBe(0)
  })
})
