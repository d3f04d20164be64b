/** Batch predictions: everything that the service needs for them, put together. */
import { join } from 'node:path'
import type { EventBus } from '@slipway/events'
import { BatchPredictionService } from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import { type Implementation, implement } from '@slipway/rpc'
import { logger } from '@slipway/telemetry'
import type { ModelTable } from '../model-table.ts'
import { createBatchService } from './batch-service.ts'
import { type Dispatcher, startDispatcher } from './dispatcher.ts'
import { InputError } from './input-error.ts'
import type { Folders } from './input-files.ts'
import { JobLog } from './job-log.ts'
import { JobStore } from './job-store.ts'
import { PartRunner } from './part-runner.ts'
import { createStageLog } from './prediction-log.ts'
import { createCutJob } from './prepare.ts'
import { Reader } from './reader.ts'
import type { FindVersion } from './resolve-job.ts'
import { allowedFolders, type BatchJobSettings, batchPaths } from './settings.ts'

const MEBIBYTE = 1024 * 1024
const CALLS_IN_FLIGHT = 4

/** What batch jobs need from around them. */
export interface BatchJobsOptions {
  readonly settings: BatchJobSettings
  /** The service's own folder. */
  readonly dataDirectory: string
  /** Whether only this machine can reach the service. */
  readonly isPrivate: boolean
  readonly models: ModelTable
  readonly bus: EventBus
  /** Reads a version from the registry by its name or an alias; unset where there is none. */
  readonly findVersion?: FindVersion
}

/** Batch jobs of this replica. */
export interface BatchJobs {
  readonly implementations: readonly Implementation[]
  /** Begins to work on parts. */
  start(): void
  /** Gives up what is under way, for another replica or the next start; the bus is closed by who opened it. */
  stop(): Promise<void>
}

/** Opens the store and learns what the other replicas know. */
export async function createBatchJobs(options: BatchJobsOptions): Promise<BatchJobs> {
  const { settings, bus, models, dataDirectory, findVersion } = options
  const log = logger('slipway.inference.batch-jobs')
  const paths = batchPaths(dataDirectory)
  const folders: Folders = allowedFolders(settings, options.isPrivate)
  const store = await JobStore.open(paths.database)
  const jobs = new JobLog({ bus, store, log })
  const createReader = (name: string): Reader =>
    new Reader({
      memoryMiB: Math.floor(settings.batchReaderBytes / MEBIBYTE),
      tempDirectory: join(paths.temporary, name),
      callsInFlight: CALLS_IN_FLIGHT,
    })
  const version = async (name: string) => {
    if (findVersion === undefined) throw new InputError('there is no registry that says what was logged')
    return await findVersion(name)
  }
  const stageLog = createStageLog({ bus, version, temporary: paths.temporary })
  const describer = createReader('describe')
  let runner: PartRunner | undefined
  let dispatcher: Dispatcher | undefined
  const rowsUnderWay = (job: string): number => runner?.rowsUnderWay(job) ?? 0
  const service = createBatchService({ store, jobs, rowsUnderWay, models, findVersion, reader: describer, folders })
  return {
    implementations: [implement(BatchPredictionService, service)],
    start: () => {
      dispatcher = startDispatcher({ bus, store, jobs, log })
      runner = new PartRunner({
        bus,
        store,
        jobs,
        readers: Array.from({ length: settings.batchReaders }, (_, index) => createReader(String(index))),
        cut: createCutJob({ folders, stageLog }),
        acquire: (name) => {
          const [, model = '', , number = ''] = name.split('/')
          return models.acquire(model, number)
        },
        log,
      })
    },
    stop: async () => {
      await dispatcher?.stop()
      await runner?.stop()
      await jobs.stop()
      await describer.close()
      await store.close()
    },
  }
}
