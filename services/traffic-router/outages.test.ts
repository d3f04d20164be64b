import { Code } from '@slipway/rpc'
import { afterEach, describe, expect, test } from 'vitest'
import { startTestRouter, type TestRouter } from './router.fixture.ts'
import { FakeInference } from './upstreams.fixture.ts'

let router: TestRouter
afterEach(async () => await router.stop())

const name = 'endpoints/flight-delay'
const target = 'models/flights/versions/1'
const double = (value: number) => ({ kind: { case: 'doubleValue' as const, value } })
const stored = {
  features: { distance: double(100) },
  entityKeys: { route: { kind: { case: 'stringValue' as const, value: 'SEA-SFO' } } },
}
const complete = { features: { distance: double(100), hour: double(7), mean_delay: double(0.5) } }

async function startWithEndpoint(): Promise<void> {
  router = await startTestRouter()
  await router.routing.createEndpoint({
    endpoint: { name, variants: [{ name: 'champion', target, weightBasisPoints: 10_000 }] },
  })
}

const ask = async (instance: typeof stored | typeof complete, timeoutMs = 5_000) =>
  await router.predictions.predict({ endpoint: name, instances: [instance] }, { timeoutMs })

describe('while another service is away', () => {
  test('the registry: predictions go on, also after the router was restarted, and weights can be moved', async () => {
    await startWithEndpoint()
    await router.stopFake('registry')
    expect((await ask(complete)).predictions[0]?.outputs.probability).toBe(600)
    router = await router.restart()
    expect((await ask(complete)).predictions[0]?.outputs.probability).toBe(600)
    const variants = [{ name: 'renamed', target, weightBasisPoints: 10_000 }]
    expect((await router.routing.setTraffic({ name, variants })).variants[0]?.name).toBe('renamed')
    const other = [{ name: 'other', target: 'models/flights/versions/3', weightBasisPoints: 10_000 }]
    const refused = await router.routing.setTraffic({ name, variants: other }).catch((error: unknown) => error)
    expect(refused).toMatchObject({ code: Code.UNAVAILABLE })
  })

  test('the feature store: requests that need it are UNAVAILABLE, complete ones are answered', async () => {
    await startWithEndpoint()
    await router.stopFake('featureStore')
    const failed = await ask(stored).catch((error: unknown) => error)
    expect(failed).toMatchObject({ code: Code.UNAVAILABLE, reason: 'FEATURE_STORE_UNAVAILABLE' })
    expect((await ask(complete)).predictions).toHaveLength(1)
  })

  test('inference: requests are UNAVAILABLE at once, and answered when it is back with its versions loaded again', async () => {
    await startWithEndpoint()
    await ask(complete)
    await router.stopFake('inference')
    expect(await ask(complete).catch((error: unknown) => error)).toMatchObject({
      code: Code.UNAVAILABLE,
      reason: 'INFERENCE_UNAVAILABLE',
    })
    const [, port] = router.addresses.inference.split(':')
    const back = await new FakeInference().start(Number(port))
    await expect
      .poll(
        async () =>
          await ask(complete).then(
            () => 'answered',
            () => 'failed',
          ),
        { timeout: 10_000 },
      )
      .toBe('answered')
    await back.stop()
  })

  test('a slow inference: the caller gets DEADLINE_EXCEEDED in time, inference was told how long it had, and later callers are answered', async () => {
    await startWithEndpoint()
    const gate = Promise.withResolvers<void>()
    router.inference.hold = gate.promise
    expect(await ask(complete, 200).catch((error: unknown) => error)).toMatchObject({ code: Code.DEADLINE_EXCEEDED })
    expect(router.inference.timeouts.at(-1)).toBeGreaterThan(0)
    expect(router.inference.timeouts.at(-1)).toBeLessThanOrEqual(200_000)
    router.inference.hold = undefined
    gate.resolve()
    expect((await ask(complete)).predictions).toHaveLength(1)
  })
})
