/** A replica of the service with batch jobs only, for tests: replicas share a bus, their models are given. */
import { setTimeout as sleep } from 'node:timers/promises'
import { DuckDBInstance } from '@duckdb/node-api'
import type { EventBus } from '@slipway/events'
import {
  type BatchJob,
  BatchJobState,
  BatchPredictionService,
} from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import { type Client, createClient, createServer } from '@slipway/rpc'
import { ModelTable } from '../model-table.ts'
import { openSharedBus } from '../replica-bus.fixture.ts'
import type { RunOptions } from '../served-version.ts'
import { runOptions, startVersion, type TestModel } from '../testing.ts'
import { createBatchJobs } from './batch-jobs.ts'
import type { FindVersion } from './resolve-job.ts'

/** How a test's replica differs from others. */
export interface ReplicaOptions {
  /** The bus that it shares with other replicas: a folder, or `kafka:host:port`. */
  readonly shared: string
  /** Folder of this replica's own. */
  readonly own: string
  readonly models: readonly TestModel[]
  readonly readers?: number
  readonly findVersion?: FindVersion
  readonly folders?: readonly string[]
  readonly run?: Partial<RunOptions>
}

/** A replica that runs. */
export interface Replica {
  readonly client: Client<typeof BatchPredictionService>
  readonly address: string
  readonly models: ModelTable
  readonly bus: EventBus
  stop(): Promise<void>
}

/** Starts a replica on a free port. */
export async function startReplica(options: ReplicaOptions): Promise<Replica> {
  const models = new ModelTable()
  for (const model of options.models) {
    const served = await startVersion(model, runOptions(options.run))
    models.set(served.model, served.number, { kind: 'ready', served, readyTimeMs: Date.now() })
  }
  const bus = openSharedBus(options.shared)
  const batch = await createBatchJobs({
    settings: {
      runsBatchJobs: true,
      batchReaders: options.readers ?? 1,
      batchReaderBytes: 256 * 1024 * 1024,
      batchFolders: options.folders ?? [],
    },
    dataDirectory: options.own,
    isPrivate: options.folders === undefined,
    models,
    bus,
    findVersion: options.findVersion,
  })
  const server = createServer({ implementations: batch.implementations, listen: { host: '127.0.0.1', port: 0 } })
  const { address } = await server.start()
  batch.start()
  const client = createClient(BatchPredictionService, { address })
  return {
    client,
    address,
    models,
    bus,
    stop: async () => {
      client.close()
      await server.drain({ graceMs: 1000 })
      await bus.close()
      await batch.stop()
      for (const { state } of [...models]) if (state.kind === 'ready') await state.served.close()
    },
  }
}

/** Waits until a job is in one of the states, or fails with what it is when it ended otherwise. */
export async function reached(
  client: Client<typeof BatchPredictionService>,
  name: string,
  ...states: BatchJobState[]
): Promise<BatchJob> {
  for (;;) {
    const job = await client.getBatchJob({ name })
    if (states.includes(job.state)) return job
    if (job.state >= BatchJobState.SUCCEEDED) throw new Error(`the job ended in state ${job.state}: ${job.message}`)
    await sleep(20)
  }
}

/** Rows of a query. */
export async function query(sql: string): Promise<unknown[][]> {
  const instance = await DuckDBInstance.create(':memory:')
  const connection = await instance.connect()
  try {
    return (await connection.runAndReadAll(sql)).getRowsJson()
  } finally {
    connection.closeSync()
    instance.closeSync()
  }
}
