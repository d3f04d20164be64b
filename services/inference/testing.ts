/** What the tests of this service share: a server over models that need no registry, and clients in messages and in bytes. */
import { readModel } from '@slipway/onnx'
import { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import { type Client, createClient, createServer } from '@slipway/rpc'
import type { BatchLimits } from './batcher.ts'
import type { StartExecutor } from './executors/executor.ts'
import { createThreadExecutor } from './executors/thread-executor.ts'
import { createInference } from './infer.ts'
import { ModelHealth } from './model-health.ts'
import { ModelTable } from './model-table.ts'
import type { ModelRepository } from './repository.ts'
import { type RunOptions, ServedVersion } from './served-version.ts'
import { createDescribingHandlers, createInferenceService } from './service.ts'
import { describeSignature } from './signature.ts'
import { Statistics } from './statistics.ts'
import { ThreadBudget } from './thread-budget.ts'

/** Limits that no test comes near unless it wants to. */
export const wideLimits: BatchLimits = {
  maxBatchRows: 256,
  maxBatchBytes: 16 * 1024 * 1024,
  maxQueueRows: 100_000,
  maxQueueWaitMs: 60_000,
}

/** A model to serve. */
export interface TestModel {
  readonly model: string
  readonly number?: string
  readonly bytes: Uint8Array
  readonly digest?: string
}

/** How a test's versions are run. */
export function runOptions(change: Partial<RunOptions> = {}): RunOptions {
  return {
    limits: wideLimits,
    budget: new ThreadBudget(2),
    startExecutor: createThreadExecutor(),
    executorsPerVersion: 1,
    intraOpThreads: 1,
    restartPolicy: { firstDelayMs: 10, maxDelayMs: 100, maxDeaths: 5, windowMs: 60_000 },
    ...change,
  }
}

/** Starts one version. */
export function startVersion(
  { model, number = '1', bytes, digest = `sha256:${'0'.repeat(64)}` }: TestModel,
  options: RunOptions,
) {
  const { inputs, outputs } = readModel(bytes)
  return ServedVersion.start(
    {
      name: `models/${model}/versions/${number}`,
      model,
      number,
      digest,
      sizeBytes: bytes.length,
      signature: describeSignature(inputs, outputs),
      read: async () => bytes,
    },
    options,
  )
}

/** A server over models. */
export interface TestServer {
  readonly address: string
  readonly models: ModelTable
  readonly statistics: Statistics
  readonly client: Client<typeof GRPCInferenceService>
  add(model: TestModel): Promise<ServedVersion>
  stop(): Promise<void>
}

/** What a test may want otherwise of its server. */
export interface ServeOptions extends Partial<RunOptions> {
  readonly transport?: 'lean' | 'grpc-js'
  readonly maxRequestRows?: number
  readonly maxRequestBytes?: number
  readonly repository?: ModelRepository
}

/** Serves models on a free port. */
export async function serve(models: readonly TestModel[], change: ServeOptions = {}): Promise<TestServer> {
  const { transport, maxRequestRows, maxRequestBytes, repository } = change
  const table = new ModelTable()
  const statistics = new Statistics(table)
  const options = runOptions({ onBatch: statistics.onBatch, ...change })
  const add = async (model: TestModel): Promise<ServedVersion> => {
    const served = await startVersion(model, options)
    table.set(served.model, served.number, { kind: 'ready', served, readyTimeMs: Date.now() })
    return served
  }
  await Promise.all(models.map(add))
  const server = createServer({
    implementations: createInferenceService(
      createInference({ models: table, statistics, ...(maxRequestRows ? { maxRequestRows } : {}) }),
      createDescribingHandlers({
        models: table,
        identity: { name: 'slipway', version: 'test' },
        isReady: () => true,
        execution: { maxBatchRows: options.limits.maxBatchRows, executorsPerVersion: options.executorsPerVersion },
        statistics,
        ...(repository ? { repository } : {}),
      }),
    ),
    listen: { host: '127.0.0.1', port: 0 },
    ...(transport ? { transport } : {}),
    ...(maxRequestBytes ? { limits: { maxRequestBytes } } : {}),
  })
  new ModelHealth(table, server.health)
  const { address } = await server.start()
  const client = createClient(GRPCInferenceService, { address })
  return {
    address,
    models: table,
    statistics,
    client,
    add,
    stop: async () => {
      client.close()
      await server.drain({ graceMs: 1000 })
      for (const { state } of [...table]) if (state.kind === 'ready') await state.served.close()
    },
  }
}

/** A script for a thread executor that fails to the taste of its test. */
export function scriptedExecutor(script: string): StartExecutor {
  return createThreadExecutor(new URL(script, import.meta.url))
}
