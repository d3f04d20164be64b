/** What the service does besides answering calls: opened together, started when models answer, ended together. */
import { join } from 'node:path'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { type ClientTls, createClient, type Implementation, isLoopback } from '@slipway/rpc'
import { openBus, type ServiceSettings } from '@slipway/service'
import { createAsyncPredictions } from './async-predictions/async-predictions.ts'
import type { AsyncPredictionSettings } from './async-predictions/settings.ts'
import { createBatchJobs } from './batch-jobs/batch-jobs.ts'
import type { BatchJobSettings } from './batch-jobs/settings.ts'
import { createExplain } from './explain/service.ts'
import type { ExplainSettings } from './explain/settings.ts'
import type { Inference } from './infer.ts'
import type { ModelSource } from './model-source.ts'
import type { ModelSourceSettings } from './model-sources/settings.ts'
import type { ModelTable } from './model-table.ts'
import type { HoldVersion } from './pipelines/start-pipeline.ts'
import { createProfile } from './profile/profile.ts'
import type { RunOptions } from './served-version.ts'

const DESCRIBE_TIMEOUT_MS = 10_000

/** One concept of the service, wired. */
export interface Room {
  readonly implementations: readonly Implementation[]
  /** Begins its work; called once, when models answer. */
  start(): void
  /** Ends it; called once the bus is closed, whether it was started or not. */
  stop(): Promise<void>
}

/** What the rooms need from around them. */
export interface RoomsOptions {
  readonly config: ServiceSettings &
    AsyncPredictionSettings &
    BatchJobSettings &
    ExplainSettings &
    Pick<ModelSourceSettings, 'registryAddress' | 'modelDirectory'> & { readonly threads: number }
  readonly inference: Inference
  readonly models: ModelTable
  /** How versions are run. */
  readonly run: RunOptions
  readonly source: Pick<ModelSource, 'files'>
  readonly hold: HoldVersion
  readonly tls: ClientTls | undefined
}

/** Opens the rooms that the settings ask for. */
export async function openRooms(options: RoomsOptions): Promise<Room> {
  const { config, inference, models, run, source, hold, tls } = options
  const { dataDirectory, threads } = config
  const needsBus = config.answersAsyncRequests || config.runsBatchJobs
  const bus = needsBus ? openBus(config, 'slipway-inference') : undefined
  // A folder of models has no registry beside it.
  const registry =
    config.modelDirectory === undefined
      ? createClient(RegistryService, { address: config.registryAddress, tls })
      : undefined
  const rooms: Room[] = []
  if (bus !== undefined && config.answersAsyncRequests) {
    const directory = join(dataDirectory, 'async-predictions')
    rooms.push(await createAsyncPredictions({ ...config, bus, inference, directory }))
  }
  if (bus !== undefined && config.runsBatchJobs) {
    const findVersion = registry && ((name: string) => registry.getVersion({ name }))
    const isPrivate = isLoopback(config.listen.host)
    rooms.push(await createBatchJobs({ settings: config, dataDirectory, isPrivate, models, bus, findVersion }))
  }
  const describe = async (name: string) => await registry?.getVersion({ name }, { timeoutMs: DESCRIBE_TIMEOUT_MS })
  const files = (name: string) => source.files(name)
  rooms.push(createExplain({ models, source: { describe, files }, settings: config }))
  const profile = createProfile({ run, threads, files, hold, registry, bus })
  return {
    implementations: [profile, ...rooms.flatMap(({ implementations }) => implementations)],
    start: () => {
      for (const room of rooms) room.start()
    },
    stop: async () => {
      await bus?.close()
      await Promise.all(rooms.map((room) => room.stop()))
      registry?.close()
    },
  }
}
