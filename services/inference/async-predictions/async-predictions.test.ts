import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { consume, deadLetterTopic, type EventBus, openEmbeddedBus, publishTo, topics } from '@slipway/events'
import { identityModel } from '@slipway/onnx'
import { ModelInferRequestSchema, ModelInferResponseSchema } from '@slipway/proto/inference/grpc_service'
import type { AsyncPredictionAnswered } from '@slipway/proto/slipway/events/v1/async_prediction'
import {
  AsyncPredictionService,
  AsyncPredictionState,
} from '@slipway/proto/slipway/inference/v1/async_prediction_service'
import { type Client, Code, createClient, createServer as createRpcServer, Failure, type RpcServer } from '@slipway/rpc'
import { Webhook } from 'standardwebhooks'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createInference, type Inference } from '../infer.ts'
import { serve, type TestServer } from '../testing.ts'
import { type AsyncPredictions, createAsyncPredictions } from './async-predictions.ts'
import type { AsyncPredictionSettings } from './settings.ts'

const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
let models: TestServer
let folder: string
let bus: EventBus
let room: Room | undefined
let results: AsyncPredictionAnswered[] = []

beforeAll(async () => {
  models = await serve([{ model: 'identity', bytes: identityModel('FP32', [-1, 1]) }])
})
afterAll(async () => await models.stop())

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'slipway-async-'))
  results = []
  bus = openEmbeddedBus({ path: join(folder, 'events.db') })
  await consume(bus, topics.asyncResults, {
    group: 'test',
    handle: async (events) => void results.push(...events.map(({ message }) => message)),
  })
})
afterEach(async () => {
  await room?.stop()
  room = undefined
  await bus.close()
  await rm(folder, { recursive: true })
})

interface Room {
  readonly client: Client<typeof AsyncPredictionService>
  stop(): Promise<void>
}

/** A server of its own over the folder's bus, as another process would be. */
async function open(
  change: Partial<AsyncPredictionSettings> = {},
  name = 'one',
  inference: Inference = createInference(models),
): Promise<Room> {
  const own = openEmbeddedBus({ path: join(folder, 'events.db') })
  const parts: AsyncPredictions = await createAsyncPredictions({
    bus: own,
    inference,
    directory: join(folder, name),
    answersAsyncRequests: true,
    asyncResultRetentionMs: 60_000,
    asyncRetryMs: 200,
    webhookHosts: new Set(),
    webhookSecret: undefined,
    ...change,
  })
  const server: RpcServer = createRpcServer({
    implementations: parts.implementations,
    listen: { host: '127.0.0.1', port: 0 },
  })
  const { address } = await server.start()
  const client = createClient(AsyncPredictionService, { address })
  parts.start()
  return {
    client,
    stop: async () => {
      client.close()
      await server.drain({ graceMs: 100 })
      await own.close()
      await parts.stop()
    },
  }
}

function request(value: number, modelName = 'identity'): Uint8Array {
  const raw = Buffer.alloc(4)
  raw.writeFloatLE(value)
  return toBinary(
    ModelInferRequestSchema,
    create(ModelInferRequestSchema, {
      modelName,
      id: `caller-${value}`,
      inputs: [{ name: 'input', datatype: 'FP32', shape: [1n, 1n] }],
      rawInputContents: [raw],
    }),
  )
}

function answerOf({ response }: { readonly response: Uint8Array }): number | undefined {
  const [raw] = fromBinary(ModelInferResponseSchema, response).rawOutputContents
  return raw === undefined ? undefined : Buffer.from(raw).readFloatLE()
}

async function until(isDone: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isDone())) await new Promise((resolve) => setTimeout(resolve, 10))
}

const ask = (requestId: string, change: object = {}) =>
  publishTo(bus, topics.asyncRequests, [
    { requestId, request: request(1), requestTime: timestampFromMs(Date.now()), ...change },
  ])

describe('a request over the bus', () => {
  test('is answered with what a call would give, its id included', async () => {
    room = await open()
    await ask('r1', { request: request(42) })
    await until(() => results.length === 1)
    expect(results[0]).toMatchObject({ requestId: 'r1', code: Code.OK, reason: '' })
    expect(answerOf(results[0] as AsyncPredictionAnswered)).toBe(42)
    expect(fromBinary(ModelInferResponseSchema, results[0]?.response ?? new Uint8Array()).id).toBe('caller-42')
  })

  test('that comes ten times has one result', async () => {
    room = await open()
    for (let time = 0; time < 10; time++) await ask('r1')
    await ask('r2')
    await until(() => results.some(({ requestId }) => requestId === 'r2'))
    await ask('r1')
    await ask('r3')
    await until(() => results.some(({ requestId }) => requestId === 'r3'))
    expect(results.filter(({ requestId }) => requestId === 'r1')).toHaveLength(1)
  })

  test('that has expired never runs, and says so', async () => {
    const before = models.models.resolve('identity', '').counts.rows
    await ask('late', { expireTime: timestampFromMs(Date.now() - 1) })
    room = await open()
    await until(() => results.length === 1)
    expect(results[0]).toMatchObject({ requestId: 'late', code: Code.DEADLINE_EXCEEDED, reason: 'EXPIRED' })
    expect(models.models.resolve('identity', '').counts.rows).toBe(before)
  })

  test('that cannot be answered has its failure as result', async () => {
    room = await open()
    await ask('unknown', { request: request(1, 'nobody') })
    await ask('broken', { request: Buffer.from('no request') })
    await until(() => results.length === 2)
    const codes = Object.fromEntries(results.map(({ requestId, code }) => [requestId, code]))
    expect(codes).toEqual({ unknown: Code.NOT_FOUND, broken: Code.INVALID_ARGUMENT })
  })

  test('without a usable id is parked, and the others of its batch are answered', async () => {
    const parked: string[] = []
    await bus.subscribe({
      topics: [deadLetterTopic(topics.asyncRequests.name)],
      group: 'test-dead',
      handle: async (batch) => void parked.push(...batch.map(({ key }) => key)),
    })
    await bus.publish([{ topic: topics.asyncRequests.name, key: 'rubbish', value: Buffer.from([0xff]), headers: {} }])
    await ask('x'.repeat(129))
    await ask('good')
    room = await open()
    await until(() => results.length === 1 && parked.length === 2)
    expect(results[0]?.requestId).toBe('good')
  })
})

test('a server that takes over finds the results of the one before, and answers nothing twice', async () => {
  for (let index = 0; index < 50; index++) await ask(`r${index}`, { request: request(index) })
  // The one before answered all and died before it could say how far it had come.
  const answered = Array.from({ length: 50 }, (_, index) => ({ requestId: `r${index}`, response: new Uint8Array([1]) }))
  await publishTo(bus, topics.asyncResults, answered.slice(0, 30))
  room = await open()
  await until(() => new Set(results.map(({ requestId }) => requestId)).size === 50)
  await ask('last')
  await until(() => results.some(({ requestId }) => requestId === 'last'))
  expect(results).toHaveLength(51)
})

test('two servers share the requests, and each request has one result', async () => {
  const [one, two] = await Promise.all([open({}, 'one'), open({}, 'two')])
  room = { client: one.client, stop: async () => void (await Promise.all([one.stop(), two.stop()])) }
  for (let index = 0; index < 200; index++) await ask(`r${index}`, { request: request(index) })
  await until(() => results.length >= 200)
  expect(new Set(results.map(({ requestId }) => requestId)).size).toBe(200)
  expect(results).toHaveLength(200)
  await until(async () => (await two.client.getPrediction({ requestId: 'r7' })).state === AsyncPredictionState.ANSWERED)
})

describe('over gRPC', () => {
  test('a request is taken, answered, and can be asked for', async () => {
    room = await open()
    const { client } = room
    const { requestId } = await client.submitPrediction({ request: request(5) })
    expect(requestId).not.toBe('')
    await until(() => results.length === 1)
    const known = () => client.getPrediction({ requestId }).catch(() => undefined)
    await until(async () => (await known())?.state === AsyncPredictionState.ANSWERED)
    const answered = await client.getPrediction({ requestId })
    expect(answerOf(answered)).toBe(5)
  })

  test('what is wrong is refused by its field', async () => {
    room = await open()
    const { client } = room
    const fieldOf = (init: Parameters<typeof client.submitPrediction>[0]) =>
      client.submitPrediction(init).then(
        () => 'taken',
        (failure: { code: number; violations: { field: string }[] }) => [failure.code, failure.violations[0]?.field],
      )
    expect(await fieldOf({ request: Buffer.from('no request') })).toEqual([Code.INVALID_ARGUMENT, 'request'])
    expect(await fieldOf({ request: new Uint8Array() })).toEqual([Code.INVALID_ARGUMENT, 'request'])
    expect(await fieldOf({ request: request(1), requestId: 'with space' })).toEqual([
      Code.INVALID_ARGUMENT,
      'request_id',
    ])
    expect(await fieldOf({ request: request(1), expireTime: timestampFromMs(1) })).toEqual([
      Code.INVALID_ARGUMENT,
      'expire_time',
    ])
    for (const webhookUrl of ['nowhere', 'http://example.com/', 'https://example.com/', 'https://a:b@example.com/'])
      expect(await fieldOf({ request: request(1), webhookUrl })).toEqual([Code.INVALID_ARGUMENT, 'webhook_url'])
    await expect(client.getPrediction({ requestId: 'nobody' })).rejects.toMatchObject({ code: Code.NOT_FOUND })
  })
})

describe('a webhook', () => {
  interface Post {
    readonly headers: Record<string, string>
    readonly body: string
  }

  async function listen(statuses: number[]) {
    const posts: Post[] = []
    const bodyOf = async (incoming: IncomingMessage) => Buffer.concat(await incoming.toArray()).toString()
    const server = createServer((incoming, response) => {
      void bodyOf(incoming).then((body) => {
        posts.push({ headers: incoming.headers as Record<string, string>, body })
        response.writeHead(statuses.shift() ?? 200).end()
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const host = `127.0.0.1:${(server.address() as AddressInfo).port}`
    return { posts, host, url: `http://${host}/results`, close: () => server.close() }
  }

  test('gets the result, signed so that the published library takes it, and again with the same id until it is taken', async () => {
    const target = await listen([500, 302])
    room = await open({ webhookHosts: new Set([target.host]), webhookSecret: secret })
    const { client } = room
    await client.submitPrediction({ requestId: 'hooked', request: request(9), webhookUrl: target.url })
    await until(() => target.posts.length === 1)
    const [first] = target.posts
    const verified = new Webhook(secret).verify(first?.body ?? '', first?.headers ?? {}) as {
      readonly type: string
      readonly data: { readonly requestId: string; readonly response: string }
    }
    expect(verified.type).toBe('slipway.async-prediction.answered')
    expect(verified.data.requestId).toBe('hooked')
    expect(answerOf({ response: Buffer.from(verified.data.response, 'base64') })).toBe(9)
    expect(first?.headers['webhook-id']).toBe('hooked')
    await until(async () => (await client.getPrediction({ requestId: 'hooked' })).webhook?.attempts === 1)
    const { webhook } = await client.getPrediction({ requestId: 'hooked' })
    expect(webhook).toMatchObject({ url: target.url, givenUp: false, lastError: 'the target answered 500' })
    target.close()
  })

  test('that is gone is given up, and its result parked', async () => {
    const parked: string[] = []
    await bus.subscribe({
      topics: [deadLetterTopic(topics.asyncResults.name)],
      group: 'test-dead',
      handle: async (batch) => void parked.push(...batch.map(({ key }) => key)),
    })
    const target = await listen([410])
    room = await open({ webhookHosts: new Set([target.host]), webhookSecret: secret })
    const { client } = room
    await client.submitPrediction({ requestId: 'gone', request: request(9), webhookUrl: target.url })
    await until(() => parked.length === 1)
    await until(async () => (await client.getPrediction({ requestId: 'gone' })).webhook?.givenUp === true)
    target.close()
  })
})

describe('a request that meets a full queue', () => {
  const full = new Failure(Code.RESOURCE_EXHAUSTED, 'QUEUE_FULL', 'the queue is full', { retryAfterMs: 1 })

  test('is tried again', async () => {
    let calls = 0
    const inference = createInference(models)
    const crowded: Inference = {
      ...inference,
      unary: (bytes, call) => {
        calls++
        if (calls <= 2) call.fail(full)
        else inference.unary(bytes, call)
      },
    }
    room = await open({ asyncRetryMs: 60_000 }, 'one', crowded)
    await ask('r1', { request: request(3) })
    await until(() => results.length === 1)
    expect(answerOf(results[0] as AsyncPredictionAnswered)).toBe(3)
    expect(calls).toBe(3)
  })

  test('fails with it when that goes on', async () => {
    const inference = createInference(models)
    room = await open({ asyncRetryMs: 200 }, 'one', { ...inference, unary: (_, call) => call.fail(full) })
    await ask('r1')
    await until(() => results.length === 1)
    expect(results[0]).toMatchObject({ code: Code.RESOURCE_EXHAUSTED, reason: 'QUEUE_FULL' })
  })
})
