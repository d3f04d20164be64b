import { GateState } from '@slipway/proto/slipway/registry/v1/model'
import { Code, Failure } from '@slipway/rpc'
import { afterEach, describe, expect, test } from 'vitest'
import { startTestRouter, type TestRouter } from './router.fixture.ts'
import { testVersion } from './upstreams.fixture.ts'

let router: TestRouter
afterEach(async () => await router.stop())

const text = (value: string) => ({ kind: { case: 'stringValue' as const, value } })
const double = (value: number) => ({ kind: { case: 'doubleValue' as const, value } })
const integer = (value: bigint) => ({ kind: { case: 'int64Value' as const, value } })
const only = (target: string) => [{ name: 'champion', target, weightBasisPoints: 10_000 }]
const canary = (basisPoints: number) => [
  { name: 'champion', target: 'models/flights/versions/1', weightBasisPoints: 10_000 - basisPoints },
  { name: 'canary', target: 'models/flights/versions/2', weightBasisPoints: basisPoints },
]
const name = 'endpoints/flight-delay'
const flight = (distance: number) => ({
  features: { distance: double(distance), hour: integer(7n) },
  entityKeys: { route: text('SEA-SFO') },
})

async function createEndpoint(target = 'models/flights/versions/1') {
  return await router.routing.createEndpoint({ endpoint: { name, variants: only(target) } })
}

describe('Predict', () => {
  test('features from request and store become tensors, and the answer names outputs, variant, version and digest', async () => {
    router = await startTestRouter()
    await createEndpoint()
    const { predictions } = await router.predictions.predict({ endpoint: name, instances: [flight(100), flight(200)] })
    expect(predictions.map((each) => each.outputs)).toEqual([
      { probability: 350, version: 1 },
      { probability: 450, version: 1 },
    ])
    expect(predictions[0]).toMatchObject({
      variant: 'champion',
      modelVersion: 'models/flights/versions/1',
      digest: testVersion(1).digest,
      missingFeatures: {},
    })
    expect(predictions[0]?.predictionId).not.toBe(predictions[1]?.predictionId)
    expect(router.featureStore.calls).toEqual([2])
  })

  test('a feature without a value becomes NaN and is named with its status', async () => {
    router = await startTestRouter()
    await createEndpoint()
    const instance = { features: { distance: double(1) }, entityKeys: { route: text('nowhere') } }
    const { predictions } = await router.predictions.predict({ endpoint: name, instances: [instance] })
    expect(predictions[0]?.outputs.probability).toBeNaN()
    expect(predictions[0]?.missingFeatures).toEqual({ hour: 3, mean_delay: 3 })
  })

  test('wrong requests are refused with the field that is wrong', async () => {
    router = await startTestRouter()
    await createEndpoint()
    const refused = async (request: Parameters<TestRouter['predictions']['predict']>[0]) =>
      await router.predictions.predict(request).catch((error: unknown) => error)
    expect(await refused({ endpoint: 'flight-delay', instances: [flight(1)] })).toMatchObject({
      code: Code.INVALID_ARGUMENT,
      violations: [{ field: 'endpoint' }],
    })
    expect(await refused({ endpoint: name, instances: [] })).toMatchObject({ violations: [{ field: 'instances' }] })
    expect(await refused({ endpoint: 'endpoints/other', instances: [flight(1)] })).toMatchObject({
      code: Code.NOT_FOUND,
      reason: 'ENDPOINT_NOT_FOUND',
    })
    expect(
      await refused({ endpoint: name, instances: [flight(1), { features: { distance: text('far') } }] }),
    ).toMatchObject({ code: Code.INVALID_ARGUMENT, violations: [{ field: 'instances[1].entity_keys' }] })
    expect(
      await refused({
        endpoint: name,
        instances: [flight(1), { features: { distance: text('far'), mean_delay: double(1) } }],
      }),
    ).toMatchObject({ code: Code.INVALID_ARGUMENT, violations: [{ field: 'instances[1].features["distance"]' }] })
    const eventTime = { seconds: 10n ** 15n, nanos: 0 }
    expect(await refused({ endpoint: name, instances: [{ ...flight(1), eventTime }] })).toMatchObject({
      code: Code.INVALID_ARGUMENT,
      violations: [{ field: 'instances[0].event_time' }],
    })
    expect(await refused({ endpoint: name, instances: [flight(-1)] })).toMatchObject({ reason: 'NEGATIVE' })
  })

  test('one caller with bad keys does not fail the others that it is read with', async () => {
    router = await startTestRouter()
    await createEndpoint()
    const calls = Array.from({ length: 20 }, async (_, index) => {
      const instance = index === 7 ? { ...flight(1), entityKeys: { route: integer(1n) } } : flight(1)
      return await router.predictions.predict({ endpoint: name, instances: [instance] })
    })
    const settled = await Promise.allSettled(calls)
    expect(settled.flatMap((each, index) => (each.status === 'rejected' ? [index] : []))).toEqual([7])
    expect(Math.max(...router.featureStore.calls)).toBeGreaterThan(1)
  })

  test('the same prediction id is routed the same, and keys stay with their variant while the canary grows', async () => {
    router = await startTestRouter()
    await router.routing.createEndpoint({ endpoint: { name, variants: canary(500) } })
    const keys = Array.from({ length: 400 }, (_, index) => `caller-${index}`)
    const ask = async (): Promise<string[]> => {
      const instances = keys.map((routingKey) => ({ ...flight(1), routingKey }))
      return (await router.predictions.predict({ endpoint: name, instances })).predictions.map((each) => each.variant)
    }
    const before = await ask()
    await router.routing.setTraffic({ name, variants: canary(3000) })
    const after = await ask()
    expect(before).toContain('canary')
    expect(after.filter((each) => each === 'canary').length).toBeGreaterThan(
      before.filter((each) => each === 'canary').length,
    )
    for (const [index, variant] of before.entries()) if (variant === 'canary') expect(after[index]).toBe('canary')
  })
})

describe('changes of traffic', () => {
  test('no request fails while weights and versions change under load', async () => {
    router = await startTestRouter()
    await createEndpoint()
    let isDone = false
    let answered = 0
    const seen = new Set<number | undefined>()
    const callers = Array.from({ length: 8 }, async () => {
      while (!isDone) {
        const { predictions } = await router.predictions.predict({ endpoint: name, instances: [flight(1)] })
        seen.add(predictions[0]?.outputs.version)
        expect(predictions[0]?.modelVersion).toBe(`models/flights/versions/${predictions[0]?.outputs.version}`)
        answered++
      }
    })
    for (const basisPoints of [500, 1000, 5000, 9000, 5000, 0, 9999]) {
      await router.routing.setTraffic({ name, variants: canary(basisPoints) })
      const target = answered + 40
      await expect.poll(() => answered).toBeGreaterThan(target)
    }
    isDone = true
    await Promise.all(callers)
    expect(seen).toEqual(new Set([1, 2]))
  })

  test('a stale etag is ABORTED and changes nothing', async () => {
    router = await startTestRouter()
    const first = await createEndpoint()
    const second = await router.routing.setTraffic({ name, etag: first.etag, variants: canary(500) })
    const stale = await router.routing
      .setTraffic({ name, etag: first.etag, variants: canary(5000) })
      .catch((error: unknown) => error)
    expect(stale).toMatchObject({ code: Code.ABORTED, reason: 'STALE_ETAG' })
    expect(await router.routing.getEndpoint({ name })).toEqual(second)
  })

  test('a version without a passed gate gets no traffic, and one that inference refuses neither', async () => {
    router = await startTestRouter()
    await createEndpoint()
    router.registry.versions.set('models/flights/versions/2', testVersion(2, { gateState: GateState.FAILED }))
    const ungated = await router.routing.setTraffic({ name, variants: canary(1) }).catch((error: unknown) => error)
    expect(ungated).toMatchObject({ code: Code.FAILED_PRECONDITION, reason: 'GATE_NOT_PASSED' })
    const corrupt = new Failure(Code.FAILED_PRECONDITION, 'DIGEST_MISMATCH', 'corrupt')
    router.inference.refused.set('models/flights/versions/3', corrupt)
    const refused = await router.routing
      .setTraffic({ name, variants: only('models/flights/versions/3') })
      .catch((error: unknown) => error)
    expect(refused).toMatchObject({ code: Code.FAILED_PRECONDITION, reason: 'DIGEST_MISMATCH' })
    const endpoint = await router.routing.getEndpoint({ name })
    expect(endpoint.variants.map((variant) => variant.modelVersion)).toEqual(['models/flights/versions/1'])
  })

  test('weights that do not add up, and a variant that is there twice, are refused', async () => {
    router = await startTestRouter()
    await createEndpoint()
    const [champion, other] = canary(500)
    const short = await router.routing.setTraffic({ name, variants: [champion ?? {}] }).catch((error: unknown) => error)
    expect(short).toMatchObject({ code: Code.INVALID_ARGUMENT, violations: [{ field: 'variants' }] })
    const twice = await router.routing
      .setTraffic({ name, variants: [champion ?? {}, { ...other, name: 'champion' }] })
      .catch((error: unknown) => error)
    expect(twice).toMatchObject({ violations: [{ field: 'variants[1].name' }] })
  })

  test('an alias is followed, and a version that cannot be loaded leaves the old one serving and says why', async () => {
    router = await startTestRouter()
    router.registry.setAlias('models/flights/aliases/champion', 'models/flights/versions/1')
    const endpoint = await createEndpoint('models/flights/aliases/champion')
    const current = async () => (await router.routing.getEndpoint({ name })).variants[0]
    router.registry.setAlias('models/flights/aliases/champion', 'models/flights/versions/2')
    await expect.poll(async () => (await current())?.modelVersion).toBe('models/flights/versions/2')
    router.inference.refused.set('models/flights/versions/3', new Failure(Code.FAILED_PRECONDITION, 'BAD', 'corrupt'))
    router.registry.setAlias('models/flights/aliases/champion', 'models/flights/versions/3')
    await expect.poll(async () => (await current())?.problem).toContain('corrupt')
    expect((await current())?.modelVersion).toBe('models/flights/versions/2')
    router.inference.refused.clear()
    await expect
      .poll(async () => (await current())?.modelVersion, { timeout: 10_000 })
      .toBe('models/flights/versions/3')
    expect((await current())?.problem).toBe('')
    expect((await router.routing.getEndpoint({ name })).etag).toBe(endpoint.etag)
  })

  test('a watch shows the endpoint as it is and then each change', async () => {
    router = await startTestRouter()
    await createEndpoint()
    const seen: unknown[] = []
    for await (const { endpoint, deleted } of router.routing.watchEndpoints({ name })) {
      seen.push(deleted ? 'deleted' : endpoint?.revision)
      if (seen.length === 1)
        await router.routing.updateEndpoint({
          endpoint: { name, description: 'delays' },
          updateMask: { paths: ['description'] },
        })
      if (seen.length === 2) await router.routing.deleteEndpoint({ name })
      if (seen.length === 3) break
    }
    expect(seen).toEqual([1n, 2n, 'deleted'])
  })
})
