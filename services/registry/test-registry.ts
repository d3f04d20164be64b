/** A registry for tests: the real service on a free port, in a folder of its own, with a fake inference service. */
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { bytesSource, registerVersion, uploadFile } from '@slipway/models'
import { mlpModel, randomLayers } from '@slipway/onnx'
import {
  FeatureSource,
  FeatureType,
  type GateReport,
  type GateSchema,
  GoldenSetSchema,
  type Model,
  type ModelVersion,
} from '@slipway/proto/slipway/registry/v1/model'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { type Client, createClient, Failure } from '@slipway/rpc'
import type { RunningService } from '@slipway/service'
import { type FakeInference, startFakeInference } from './fake-inference.ts'
import { start } from './main.ts'

/** A running registry and what a test does with it. */
export interface TestRegistry {
  readonly directory: string
  readonly inference: FakeInference
  client: Client<typeof RegistryService>
  /** Stops the service and starts it again on the same folder. */
  restart(): Promise<void>
  stop(): Promise<void>
}

/** Features and outputs of `model()`. */
export const bindings = {
  features: ['distance', 'hour'].map((feature, column) => ({
    feature,
    type: FeatureType.DOUBLE,
    source: FeatureSource.REQUEST,
    input: 'features',
    column,
  })),
  outputs: [{ output: 'late', tensor: 'probability', column: 0 }],
}

/** Starts one. */
export async function startTestRegistry(settings: Readonly<Record<string, string>> = {}): Promise<TestRegistry> {
  const directory = mkdtempSync(join(tmpdir(), 'slipway-registry-'))
  const inference = await startFakeInference()
  const env = {
    SLIPWAY_LISTEN: '127.0.0.1:0',
    SLIPWAY_DATA_DIR: directory,
    SLIPWAY_INFERENCE_ADDRESS: inference.address,
    SLIPWAY_REGISTRY_DRAIN_GRACE: '100ms',
    SLIPWAY_LOG_LEVEL: 'off',
    ...settings,
  }
  let running: RunningService = await start(env)
  const registry: TestRegistry = {
    directory,
    inference,
    client: createClient(RegistryService, { address: running.address }),
    restart: async () => {
      registry.client.close()
      await running.stop()
      running = await start(env)
      registry.client = createClient(RegistryService, { address: running.address })
    },
    stop: async () => {
      registry.client.close()
      await running.stop()
      await inference.stop()
      rmSync(directory, { recursive: true, force: true })
    },
  }
  return registry
}

/** A model of two features and one probability. */
export function model(seed = 1): Uint8Array {
  return mlpModel({ layers: randomLayers([2, 1], seed) })
}

/** Ten rows whose first feature counts from 0 to 9, the upper half labelled 1. */
export function goldenSet(labels = Array.from({ length: 10 }, (_, row) => (row >= 5 ? 1 : 0))): Uint8Array {
  const values = Float32Array.from({ length: 20 }, (_, index) => Math.floor(index / 2))
  const inputs = [{ name: 'features', datatype: 'FP32', shape: [10n, 2n], raw: new Uint8Array(values.buffer) }]
  return toBinary(GoldenSetSchema, create(GoldenSetSchema, { inputs, labels }))
}

/** Creates a model whose gate has the golden set and the rules. */
export async function createModel(
  registry: TestRegistry,
  id = 'flight-delay',
  gate: MessageInitShape<typeof GateSchema> = {},
): Promise<Model> {
  const { digest } = await uploadFile(registry.client, bytesSource(goldenSet()))
  return await registry.client.createModel({
    model: { name: `models/${id}`, gate: { goldenSetDigest: digest, ...gate } },
  })
}

/** Registers the next version of a model. */
export async function createVersion(registry: TestRegistry, id = 'flight-delay', seed = 1): Promise<ModelVersion> {
  const files = { 'model.onnx': model(seed) }
  return await registerVersion(registry.client, {
    parent: `models/${id}`,
    requestId: randomUUID(),
    files,
    ...bindings,
    lineage: { parameters: { seed: String(seed) } },
  })
}

/** Runs a gate to its end. */
export async function runGate(registry: TestRegistry, name: string): Promise<GateReport> {
  let report: GateReport | undefined
  for await (const message of registry.client.runGate({ name })) report = message.report
  if (report === undefined) throw new Error('the run ended without a report')
  return report
}

/** A version whose gate has passed. */
export async function createPassedVersion(
  registry: TestRegistry,
  id = 'flight-delay',
  seed = 1,
): Promise<ModelVersion> {
  const version = await createVersion(registry, id, seed)
  const report = await runGate(registry, version.name)
  if (!report.passed) throw new Error(`the gate failed: ${JSON.stringify(report.checks.map((check) => check.rule))}`)
  return version
}

/** The failure of a call that must fail. */
export async function failureOf(call: Promise<unknown>): Promise<Failure> {
  const error: unknown = await call.then(
    () => new Error('the call succeeded'),
    (reason: unknown) => reason,
  )
  if (error instanceof Failure) return error
  throw error
}
