import { Code } from '@slipway/rpc'
import { afterEach, describe, expect, test } from 'vitest'
import { startTestRouter, type TestRouter } from './router.fixture.ts'

let router: TestRouter
afterEach(async () => await router.stop())

const target = 'models/flights/versions/1'
const endpoint = (id: string) => ({
  name: `endpoints/${id}`,
  variants: [{ name: 'champion', target, weightBasisPoints: 10_000 }],
})
const failed = async (call: Promise<unknown>): Promise<unknown> => await call.catch((error: unknown) => error)

describe('RoutingService', () => {
  test('a new endpoint has its defaults, its buckets and the version that answers', async () => {
    router = await startTestRouter()
    const created = await router.routing.createEndpoint({ endpoint: endpoint('flight-delay') })
    expect(created).toMatchObject({
      salt: 'endpoints/flight-delay',
      predictionSamplingRate: 1,
      requestSamplingRate: 0,
      revision: 1n,
    })
    expect(created.variants[0]).toMatchObject({
      buckets: [{ start: 0, end: 10_000 }],
      modelVersion: target,
      featureService: 'featureServices/flights',
      problem: '',
    })
    expect(await router.routing.getEndpoint({ name: created.name })).toEqual(created)
  })

  test('the same request id gives the same endpoint, another request for the name is ALREADY_EXISTS', async () => {
    router = await startTestRouter()
    const request = { endpoint: endpoint('flight-delay'), requestId: 'request-0001' }
    const answers = await Promise.all([router.routing.createEndpoint(request), router.routing.createEndpoint(request)])
    expect(answers[1]).toEqual(answers[0])
    const again = await failed(router.routing.createEndpoint({ ...request, requestId: 'request-0002' }))
    expect(again).toMatchObject({ code: Code.ALREADY_EXISTS, reason: 'ENDPOINT_EXISTS' })
    const other = await failed(router.routing.createEndpoint({ ...request, endpoint: endpoint('other') }))
    expect(other).toMatchObject({ code: Code.ALREADY_EXISTS, reason: 'REQUEST_ID_USED' })
  })

  test('an update changes what its mask names and nothing else, and refuses what cannot be changed', async () => {
    router = await startTestRouter()
    const created = await router.routing.createEndpoint({ endpoint: endpoint('flight-delay') })
    const change = { name: created.name, description: 'late?', predictionSamplingRate: 0.5, labels: { team: 'air' } }
    const paths = ['description', 'prediction_sampling_rate']
    const updated = await router.routing.updateEndpoint({ endpoint: change, updateMask: { paths } })
    expect(updated).toMatchObject({ description: 'late?', predictionSamplingRate: 0.5, labels: {}, revision: 2n })
    expect(updated.variants).toEqual(created.variants)
    const salted = failed(router.routing.updateEndpoint({ endpoint: change, updateMask: { paths: ['salt'] } }))
    expect(await salted).toMatchObject({ code: Code.INVALID_ARGUMENT, violations: [{ field: 'update_mask' }] })
    const wrong = failed(router.routing.updateEndpoint({ endpoint: { ...change, predictionSamplingRate: 2 } }))
    expect(await wrong).toMatchObject({ code: Code.INVALID_ARGUMENT })
  })

  test('pages list every endpoint once, by name', async () => {
    router = await startTestRouter()
    for (const id of ['c', 'a', 'e', 'b', 'd']) await router.routing.createEndpoint({ endpoint: endpoint(id) })
    const seen: string[] = []
    let pageToken = ''
    do {
      const page = await router.routing.listEndpoints({ pageSize: 2, pageToken })
      seen.push(...page.endpoints.map((each) => each.name))
      pageToken = page.nextPageToken
    } while (pageToken !== '')
    expect(seen).toEqual(['a', 'b', 'c', 'd', 'e'].map((id) => `endpoints/${id}`))
  })

  test('a deleted endpoint is gone for good, also after a restart, and its name is free', async () => {
    router = await startTestRouter()
    const { name, etag } = await router.routing.createEndpoint({ endpoint: endpoint('flight-delay') })
    expect(await failed(router.routing.deleteEndpoint({ name, etag: 'r9' }))).toMatchObject({ code: Code.ABORTED })
    await router.routing.deleteEndpoint({ name, etag })
    router = await router.restart()
    expect(await failed(router.routing.getEndpoint({ name }))).toMatchObject({ code: Code.NOT_FOUND })
    const again = await router.routing.createEndpoint({ endpoint: endpoint('flight-delay') })
    expect(again.revision).toBe(1n)
    expect(again.etag).not.toBe(etag)
  })

  test('a version that the registry does not know is NOT_FOUND and leaves nothing behind', async () => {
    router = await startTestRouter()
    const variants = [{ name: 'champion', target: 'models/flights/versions/99', weightBasisPoints: 10_000 }]
    const refused = failed(router.routing.createEndpoint({ endpoint: { name: 'endpoints/x', variants } }))
    expect(await refused).toMatchObject({ code: Code.NOT_FOUND, reason: 'VERSION_NOT_FOUND' })
    expect(await router.routing.listEndpoints({})).toMatchObject({ endpoints: [] })
  })
})
