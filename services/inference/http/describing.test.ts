import { buildModel, identityModel } from '@slipway/onnx'
import { Code, Failure } from '@slipway/rpc'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ModelRepository } from '../repository.ts'
import { eventually, type HttpTestServer, serveHttp } from './http-server.fixture.ts'

const asked: string[] = []
const repository: ModelRepository = {
  load: async (model) => {
    if (model === 'gone') throw new Failure(Code.NOT_FOUND, 'UNKNOWN_MODEL', 'gone')
    asked.push(`load ${model}`)
  },
  unload: async (model) => {
    asked.push(`unload ${model}`)
  },
}
const model = buildModel({
  name: 'wide',
  inputs: [{ name: 'x', datatype: 'INT64', shape: [-1, 3] }],
  outputs: [{ name: 'y', datatype: 'INT64', shape: [-1, 3] }],
  nodes: [{ operator: 'Identity', inputs: ['x'], outputs: ['y'] }],
})

let server: HttpTestServer
let isReady = true
beforeAll(async () => {
  server = await serveHttp(
    [
      { model: 'wide', bytes: model },
      { model: 'a b/ü', bytes: identityModel('FP32') },
    ],
    {
      repository,
      isReady: () => isReady,
    },
  )
})
afterAll(() => server.stop())

const metadata = {
  name: 'wide',
  versions: ['1'],
  platform: 'onnxruntime_onnx',
  inputs: [{ name: 'x', datatype: 'INT64', shape: [-1, 3] }],
  outputs: [{ name: 'y', datatype: 'INT64', shape: [-1, 3] }],
}

test('the server says what it is, with and without a slash or a query', async () => {
  for (const path of ['/v2', '/v2/', '/v2?x=/v3'])
    expect((await server.get(path)).json).toMatchObject({
      name: 'slipway',
      version: 'test',
      extensions: expect.arrayContaining(['binary_tensor_data']),
    })
})

test('health has a body, and a status that probes read', async () => {
  expect(await server.get('/v2/health/live')).toMatchObject({ status: 200, json: { live: true } })
  expect(await server.get('/v2/health/ready')).toMatchObject({ status: 200, json: { ready: true } })
  isReady = false
  expect(await server.get('/v2/health/live')).toMatchObject({ status: 200, json: { live: true } })
  expect(await server.get('/v2/health/ready')).toMatchObject({ status: 503, json: { ready: false } })
  isReady = true
})

test('a model is described, by version too, and by a name that has to be encoded', async () => {
  expect((await server.get('/v2/models/wide')).json).toEqual(metadata)
  expect((await server.get('/v2/models/wide/versions/1')).json).toEqual(metadata)
  expect((await server.get('/v2/models/a%20b%2F%C3%BC')).json).toMatchObject({ name: 'a b/ü' })
  expect(await server.get('/v2/models/nope')).toMatchObject({ status: 404, json: { reason: 'UNKNOWN_MODEL' } })
  expect(await server.get('/v2/models/wide/versions/2')).toMatchObject({ status: 404 })
})

test('HEAD is GET without the body', async () => {
  const answer = await fetch(`${server.url}/v2/health/live`, { method: 'HEAD' })
  expect([answer.status, await answer.text()]).toEqual([200, ''])
})

test('a model is ready or not', async () => {
  const ready = { status: 200, json: { name: 'wide', ready: true } }
  expect(await server.get('/v2/models/wide/ready')).toMatchObject(ready)
  expect(await server.get('/v2/models/wide/versions/1/ready')).toMatchObject(ready)
  expect(await server.get('/v2/models/wide/versions/2/ready')).toMatchObject({ status: 503, json: { ready: false } })
  expect(await server.get('/v2/models/nope/ready')).toMatchObject({ status: 503, json: { ready: false } })
})

test('config, statistics and index say what gRPC says, with integers as numbers', async () => {
  const { config } = await server.grpc.client.modelConfig({ name: 'wide' })
  const shown = await server.get('/v2/models/wide/config')
  expect(shown.json).toMatchObject({
    name: 'wide',
    platform: config?.platform,
    max_batch_size: config?.maxBatchSize,
    input: [{ name: 'x', data_type: 'TYPE_INT64', dims: [3] }],
    output: [{ name: 'y', data_type: 'TYPE_INT64', dims: [3] }],
  })
  const inputs = [{ name: 'x', datatype: 'INT64', shape: [2, 3], data: [1, 2, 3, 4, 5, 6] }]
  expect(await server.post('/v2/models/wide/infer', { inputs })).toMatchObject({ status: 200 })
  const stats = [
    {
      name: 'wide',
      version: '1',
      inference_count: 2,
      execution_count: 1,
      inference_stats: { success: { count: 1, ns: expect.any(Number) } },
    },
  ]
  await eventually(async () => (await server.get('/v2/models/wide/stats')).json).toMatchObject({ model_stats: stats })
  expect((await server.get('/v2/models/wide/versions/1/stats')).json).toMatchObject({ model_stats: stats })
  const { modelStats } = await server.grpc.client.modelStatistics({})
  const all = (await server.get('/v2/models/stats')).json as { model_stats: { name: string }[] }
  expect(all.model_stats.map(({ name }) => name)).toEqual(modelStats.map(({ name }) => name))
  const index = await server.post('/v2/repository/index', '')
  expect(index.json).toEqual([
    { name: 'a b/ü', version: '1', state: 'READY', reason: '' },
    { name: 'wide', version: '1', state: 'READY', reason: '' },
  ])
  expect((await server.post('/v2/repository/index', { ready: true })).json).toEqual(index.json)
})

test('models are loaded and let go', async () => {
  expect(await server.post('/v2/repository/models/wide/load', '')).toMatchObject({ status: 200, text: '' })
  expect(
    await server.post('/v2/repository/models/wide/unload', { parameters: { unload_dependents: true } }),
  ).toMatchObject({ status: 200 })
  expect(asked).toEqual(['load wide', 'unload wide'])
  expect(await server.post('/v2/repository/models/gone/load', '')).toMatchObject({
    status: 404,
    json: { error: 'gone' },
  })
})

test.each<[string, string, unknown, number]>([
  ['POST', '/v2/repository/models/wide/load', { parameters: { config: '{}' } }, 400],
  ['POST', '/v2/repository/models/wide/load', { parameters: { 'file:1/model.onnx': 'AAAA' } }, 400],
  ['POST', '/v2/repository/models/wide/load', { parameters: { x: [] } }, 400],
  ['POST', '/v2/repository/models/wide/load', { parameters: 1 }, 400],
  ['POST', '/v2/repository/models/wide/load', '[', 400],
  ['POST', '/v2/repository/models/wide/unload', { parameters: { unload_dependents: 'yes' } }, 400],
  ['POST', '/v2/repository/index', { ready: 'yes' }, 400],
  ['POST', '/v2/repository/index', '7', 400],
  ['GET', '/', undefined, 404],
  ['GET', '/v1/models', undefined, 404],
  ['GET', '/v2/models', undefined, 404],
  ['GET', '/v2/models//ready', undefined, 404],
  ['GET', '/v2/models/wide/versions', undefined, 404],
  ['GET', '/v2/models/wide/versions/1/infer/x', undefined, 404],
  ['GET', '/v2/models/%ff', undefined, 400],
  ['GET', '/v2/models/wide/infer', undefined, 405],
  ['POST', '/v2/health/live', {}, 405],
  ['DELETE', '/v2/models/wide', undefined, 405],
  ['OPTIONS', '/v2/models/wide/infer', undefined, 405],
])('%s %s %j is %d, and says why', async (method, path, body, status) => {
  const sent = typeof body === 'string' ? body : JSON.stringify(body)
  const answer = await fetch(`${server.url}${path}`, { method, ...(sent === undefined ? {} : { body: sent }) })
  expect(answer.status).toBe(status)
  expect(answer.headers.get('content-type')).toBe('application/json')
  expect(await answer.json()).toMatchObject({ error: expect.any(String), reason: expect.any(String) })
  expect(answer.headers.has('allow')).toBe(status === 405)
})

test('a page of another site has no say', async () => {
  const headers = { 'Sec-Fetch-Site': 'cross-site' }
  const answer = await server.post('/v2/repository/models/wide/unload', '', headers)
  expect(answer).toMatchObject({ status: 403, json: { reason: 'CROSS_SITE' } })
})
