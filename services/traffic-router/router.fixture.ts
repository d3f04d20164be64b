/** A whole router on its own folder, with fakes behind it, for tests. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import { PredictionService } from '@slipway/proto/slipway/routing/v1/prediction_service'
import { RoutingService } from '@slipway/proto/slipway/routing/v1/routing_service'
import { type Client, createClient } from '@slipway/rpc'
import type { RunningService } from '@slipway/service'
import { start } from './main.ts'
import { FakeFeatureStore, FakeInference, FakeRegistry, testVersion } from './upstreams.fixture.ts'

/** A router, its fakes and its clients. */
export interface TestRouter {
  readonly registry: FakeRegistry
  readonly featureStore: FakeFeatureStore
  readonly inference: FakeInference
  readonly routing: Client<typeof RoutingService>
  readonly predictions: Client<typeof PredictionService>
  readonly oip: Client<typeof GRPCInferenceService>
  readonly address: string
  readonly dataDirectory: string
  readonly env: Record<string, string>
  /** Addresses of the fakes. */
  readonly addresses: { registry: string; featureStore: string; inference: string }
  /** Stops one of the fakes. */
  stopFake(name: 'registry' | 'featureStore' | 'inference'): Promise<void>
  /** Stops the router and starts it again on the same data, with other settings. */
  restart(settings?: Record<string, string>): Promise<TestRouter>
  stop(): Promise<void>
}

/** Starts a router with versions 1 to 3 of `models/flights` in its registry. */
export async function startTestRouter(settings: Record<string, string> = {}): Promise<TestRouter> {
  const registry = new FakeRegistry()
  const featureStore = new FakeFeatureStore()
  const inference = new FakeInference()
  for (const number of [1, 2, 3]) registry.versions.set(`models/flights/versions/${number}`, testVersion(number))
  featureStore.meanDelays.set('SEA-SFO', 0.25)
  const fakes = {
    registry: await registry.start(),
    featureStore: await featureStore.start(),
    inference: await inference.start(),
  }
  const dataDirectory = await mkdtemp(join(tmpdir(), 'slipway-router-'))
  const env = {
    SLIPWAY_LISTEN: '127.0.0.1:0',
    SLIPWAY_DATA_DIR: dataDirectory,
    SLIPWAY_REGISTRY_ADDRESS: fakes.registry.address,
    SLIPWAY_FEATURE_STORE_ADDRESS: fakes.featureStore.address,
    SLIPWAY_INFERENCE_ADDRESS: fakes.inference.address,
    SLIPWAY_TRAFFIC_ROUTER_DRAIN_GRACE: '100ms',
    ...settings,
  }
  const addresses = {
    registry: fakes.registry.address,
    featureStore: fakes.featureStore.address,
    inference: fakes.inference.address,
  }
  const shared = { registry, featureStore, inference, dataDirectory, env, addresses }
  const stopFake = async (name: keyof typeof fakes): Promise<void> => await fakes[name].stop()
  const clean = async (): Promise<void> => {
    await Promise.all(Object.values(fakes).map(async (fake) => await fake.stop()))
    await rm(dataDirectory, { recursive: true, force: true })
  }
  const run = async (changed: Record<string, string> = {}): Promise<TestRouter> => {
    const running = await start({ ...env, ...changed })
    const clients = connect(running)
    const end = async (): Promise<void> => {
      for (const client of [clients.routing, clients.predictions, clients.oip]) client.close()
      await running.stop()
    }
    const restart = async (changed: Record<string, string> = {}): Promise<TestRouter> => {
      await end()
      return await run(changed)
    }
    const stop = async (): Promise<void> => {
      await end()
      await clean()
    }
    return { ...shared, ...clients, address: running.address, stopFake, restart, stop }
  }
  return await run()
}

function connect({ address }: RunningService): Pick<TestRouter, 'routing' | 'predictions' | 'oip'> {
  return {
    routing: createClient(RoutingService, { address }),
    predictions: createClient(PredictionService, { address }),
    oip: createClient(GRPCInferenceService, { address }),
  }
}
