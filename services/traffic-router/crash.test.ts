import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { consume, openEmbeddedBus, topics } from '@slipway/events'
import { PredictionService } from '@slipway/proto/slipway/routing/v1/prediction_service'
import { RoutingService } from '@slipway/proto/slipway/routing/v1/routing_service'
import { createClient } from '@slipway/rpc'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FakeFeatureStore, FakeInference, FakeRegistry, testVersion } from './upstreams.fixture.ts'

const name = 'endpoints/flight-delay'
const rounds = 3
let directory: string
let child: ChildProcess | undefined
let stops: (() => Promise<void>)[] = []

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'slipway-router-crash-'))
})
afterEach(async () => {
  child?.kill('SIGKILL')
  await Promise.all(stops.map(async (stop) => await stop()))
  stops = []
  await rm(directory, { recursive: true, force: true })
})

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return typeof address === 'object' && address !== null ? address.port : 0
}

async function kill(): Promise<void> {
  const ended = new Promise((resolve) => child?.once('exit', resolve))
  child?.kill('SIGKILL')
  await ended
}

test('a router that is killed with -9 under load loses no acknowledged change and no acknowledged feedback', async () => {
  const registry = new FakeRegistry()
  for (const number of [1, 2]) registry.versions.set(`models/flights/versions/${number}`, testVersion(number))
  const upstreams = await Promise.all([registry.start(), new FakeFeatureStore().start(), new FakeInference().start()])
  stops = upstreams.map((upstream) => upstream.stop)
  const [registryAddress = '', featureStore = '', inference = ''] = upstreams.map((upstream) => upstream.address)
  const address = `127.0.0.1:${await freePort()}`
  const env = {
    ...process.env,
    SLIPWAY_LISTEN: address,
    SLIPWAY_DATA_DIR: directory,
    SLIPWAY_REGISTRY_ADDRESS: registryAddress,
    SLIPWAY_FEATURE_STORE_ADDRESS: featureStore,
    SLIPWAY_INFERENCE_ADDRESS: inference,
  }
  const start = (): void => {
    const main = fileURLToPath(new URL('./main.ts', import.meta.url))
    child = spawn(process.execPath, [main], { env, stdio: 'ignore' })
  }
  const routing = createClient(RoutingService, { address })
  const predictions = createClient(PredictionService, { address })
  stops.push(
    async () => routing.close(),
    async () => predictions.close(),
  )
  const variants = (basisPoints: number) => [
    { name: 'champion', target: 'models/flights/versions/1', weightBasisPoints: 10_000 - basisPoints },
    { name: 'canary', target: 'models/flights/versions/2', weightBasisPoints: basisPoints },
  ]
  start()
  const created = async () =>
    await routing.createEndpoint({ endpoint: { name, variants: variants(0) } }).then(
      () => true,
      () => false,
    )
  await expect.poll(created, { timeout: 20_000 }).toBe(true)

  const acknowledged: string[] = []
  let weight = 0
  for (let round = 0; round < rounds; round++) {
    let isRunning = true
    const recorders = Array.from({ length: 4 }, async (_, caller) => {
      for (let index = 0; isRunning; index++) {
        const predictionId = `round-${round}-${caller}-${index}`
        const outcome = { case: 'label' as const, value: 1 }
        const kept = await predictions.recordFeedback({ endpoint: name, feedback: [{ predictionId, outcome }] }).then(
          () => true,
          () => false,
        )
        if (kept) acknowledged.push(predictionId)
      }
    })
    const goal = acknowledged.length + 100
    await expect.poll(() => acknowledged.length, { timeout: 20_000 }).toBeGreaterThan(goal)
    weight =
      (await routing.setTraffic({ name, variants: variants((round + 1) * 100) })).variants[1]?.weightBasisPoints ?? 0
    await kill()
    isRunning = false
    await Promise.all(recorders)
    start()
    const read = async () =>
      await routing.getEndpoint({ name }).then(
        (endpoint) => endpoint.variants[1]?.weightBasisPoints,
        () => undefined,
      )
    await expect.poll(read, { timeout: 20_000 }).toBe(weight)
  }

  const bus = openEmbeddedBus({ path: join(directory, 'events.db') })
  stops.push(async () => await bus.close())
  const arrived = new Set<string>()
  const subscription = await consume(bus, topics.feedback, {
    group: 'test',
    handle: async (events) => {
      for (const { message } of events) arrived.add(message.predictionId)
    },
  })
  const lost = (): number => acknowledged.filter((id) => !arrived.has(id)).length
  await expect.poll(lost, { timeout: 20_000 }).toBe(0)
  await subscription.stop()
  await kill()
}, 90_000)
