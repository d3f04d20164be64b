import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, toBinary } from '@bufbuild/protobuf'
import { consume, type EventBus, publishTo, topics } from '@slipway/events'
import { identityModel } from '@slipway/onnx'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type RunningKafka, startKafka } from '../../../tools/backends/index.ts'
import { createInference } from '../infer.ts'
import { openSharedBus } from '../replica-bus.fixture.ts'
import { serve, type TestServer } from '../testing.ts'
import { createAsyncPredictions } from './async-predictions.ts'

const isWanted = process.env.SLIPWAY_TEST_KAFKA !== undefined
const REQUESTS = 2000

const request = toBinary(
  ModelInferRequestSchema,
  create(ModelInferRequestSchema, {
    modelName: 'identity',
    inputs: [{ name: 'input', datatype: 'FP32', shape: [1n, 1n] }],
    rawInputContents: [Buffer.alloc(4)],
  }),
)

interface Room {
  stop(): Promise<void>
}

describe.skipIf(!isWanted)('asynchronous predictions over Kafka', () => {
  let kafka: RunningKafka
  let models: TestServer
  let folder: string
  let bus: EventBus
  let place: string
  let results: string[]
  const rooms: Room[] = []
  const children: ChildProcess[] = []

  beforeAll(async () => {
    models = await serve([{ model: 'identity', bytes: identityModel('FP32', [-1, 1]) }])
  })
  afterAll(async () => await models.stop())

  beforeEach(async () => {
    kafka = await startKafka()
    place = `kafka:${kafka.brokers[0]}`
    folder = await mkdtemp(join(tmpdir(), 'slipway-async-kafka-'))
    bus = openSharedBus(place)
    results = []
    await consume(bus, topics.asyncResults, {
      group: 'test',
      handle: async (events) => void results.push(...events.map(({ message }) => message.requestId)),
    })
  })
  afterEach(async () => {
    for (const room of rooms.splice(0)) await room.stop()
    for (const child of children.splice(0)) await kill(child)
    await bus.close()
    await kafka.stop()
    await rm(folder, { recursive: true })
  })

  /** A server in this process, stopped as the service stops it. */
  async function open(name: string): Promise<Room> {
    const own = openSharedBus(place)
    const room = await createAsyncPredictions({
      bus: own,
      inference: createInference(models),
      directory: join(folder, name),
      answersAsyncRequests: true,
      asyncResultRetentionMs: 3_600_000,
      asyncRetryMs: 1000,
      webhookHosts: new Set(),
      webhookSecret: `whsec_${Buffer.alloc(32, 7).toString('base64')}`,
    })
    room.start()
    const opened: Room = {
      stop: async () => {
        if (rooms.includes(opened)) rooms.splice(rooms.indexOf(opened), 1)
        await own.close()
        await room.stop()
      },
    }
    rooms.push(opened)
    return opened
  }

  async function openProcess(name: string): Promise<ChildProcess> {
    const script = new URL('./answering-process.fixture.ts', import.meta.url)
    const child = fork(script, [place, join(folder, name)], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    children.push(child)
    await once(child, 'message')
    return child
  }

  async function ask(from: number, to: number): Promise<void> {
    for (let first = from; first < to; first += 100) {
      const lot = Array.from({ length: 100 }, (_, index) => ({ requestId: `r${first + index}`, request }))
      await publishTo(bus, topics.asyncRequests, lot)
    }
  }

  /** Waits for the results of all requests, and of one more that is asked after them. */
  async function expectOneEach(requests: number): Promise<void> {
    await expect.poll(() => new Set(results).size, { timeout: 60_000 }).toBe(requests)
    await publishTo(bus, topics.asyncRequests, [{ requestId: 'last', request }])
    await expect.poll(() => results.includes('last'), { timeout: 20_000 }).toBe(true)
    expect(results).toHaveLength(requests + 1)
  }

  test('two servers share the requests, one is stopped and another comes: one result for each', {
    timeout: 120_000,
  }, async () => {
    const first = await open('one')
    await open('two')
    await ask(0, REQUESTS)
    await expect.poll(() => results.length).toBeGreaterThan(REQUESTS / 10)
    const [, third] = await Promise.all([first.stop(), open('three'), ask(REQUESTS, 2 * REQUESTS)])
    await expect.poll(() => results.length).toBeGreaterThan(REQUESTS)
    await third.stop()
    await expectOneEach(2 * REQUESTS)
  })

  test('two servers share the requests and one is killed again and again: one result for each', {
    timeout: 120_000,
  }, async () => {
    await open('one')
    let killed = await openProcess('two')
    await ask(0, REQUESTS)
    for (const part of [0.1, 0.5]) {
      await expect.poll(() => results.length).toBeGreaterThan(part * REQUESTS)
      await kill(killed)
      killed = await openProcess('two')
    }
    await ask(REQUESTS, 2 * REQUESTS)
    await kill(killed)
    await expectOneEach(2 * REQUESTS)
  })

  test('servers stop while they join, while they answer, and when they have nothing to do', async () => {
    const joining = await open('one')
    await joining.stop()
    const [one, two] = await Promise.all([open('one'), open('two')])
    await ask(0, 1000)
    await expect.poll(() => results.length).toBeGreaterThan(0)
    await Promise.all([one.stop(), two.stop()])
    const three = await open('three')
    await expectOneEach(1000)
    await three.stop()
  })

  test('a server stops when the broker is gone: one that answers, and one that never reached it', async () => {
    const one = await open('one')
    await ask(0, 1000)
    await expect.poll(() => results.length).toBeGreaterThan(0)
    await kafka.kill()
    const two = await open('two')
    await Promise.all([one.stop(), two.stop()])
  })
})

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}
