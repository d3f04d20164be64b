/** The versions that answer: where they come from, how they are run, and which of them are held. */
import type { ClientTls } from '@slipway/rpc'
import type { Logger } from '@slipway/telemetry'
import { limitsFor } from './batching-settings.ts'
import type { InferenceConfig } from './config.ts'
import { chooseExecutor } from './executors/choose.ts'
import { openFolderOrigin } from './model-sources/folder-origin.ts'
import type { ModelOrigin } from './model-sources/model-origin.ts'
import { openRegistryOrigin } from './model-sources/registry-origin.ts'
import { ModelTable } from './model-table.ts'
import { createLoadLog, createObserver, type Observer } from './observer.ts'
import { createStarter, type HoldVersion } from './pipelines/start-pipeline.ts'
import { Residency } from './residency-loop.ts'
import { memoryEstimate, policyOf } from './residency-settings.ts'
import { createResponseCache } from './response-cache/response-cache.ts'
import type { RunOptions } from './served-version.ts'
import { Statistics } from './statistics.ts'
import { ThreadBudget } from './thread-budget.ts'

/** See the top of this file. */
export interface Serving {
  readonly models: ModelTable
  readonly statistics: Statistics
  /** How versions are run. */
  readonly run: RunOptions
  readonly origin: ModelOrigin
  readonly residency: Residency
  /** Loads versions for who pins them. */
  readonly hold: HoldVersion
  /** Answers what was taken, lets all versions go, and closes what they came from. */
  stop(): Promise<void>
}

/** What serving needs from around it. */
export interface ServingOptions {
  readonly config: InferenceConfig
  readonly log: Logger
  readonly tls: ClientTls | undefined
}

/** Opens where versions come from; nothing is loaded before `origin.follow`. */
export async function openServing({ config, log, tls }: ServingOptions): Promise<Serving> {
  const models = new ModelTable()
  const origin = await openOrigin({ ...config, tls, models, log })
  const observer = createObserver(log, models, config.maxLabelledVersions)
  const statistics = new Statistics(models)
  const run = { ...runOptions(config), ...observer, ...listenersTo(observer, statistics, models) }
  const keepResponses = createResponseCache(config)
  const { wanted, source } = origin
  const hold: HoldVersion = (name, digest) => residency.hold(name, digest)
  const startVersion = createStarter({ run, hold, onBatch: statistics.onBatch })
  const residency = new Residency({
    wanted,
    source,
    models,
    defaultAlias: config.defaultAlias,
    start: async (name) => keepResponses(await startVersion(await source.files(name))),
    policy: policyOf(config, origin.unwantedIdleMs),
    estimateBytes: memoryEstimate(config.executorsPerVersion),
    maxWaiters: config.maxLoadWaiters,
    ...createLoadLog(log),
  })
  return {
    models,
    statistics,
    run,
    origin,
    residency,
    hold,
    stop: async () => {
      await residency.stop()
      observer.stop()
      origin.close()
    },
  }
}

/** Models come from a folder where one is named, else from the registry. */
function openOrigin(options: Parameters<typeof openRegistryOrigin>[0] & Omit<InferenceConfig, 'tls'>) {
  const { modelDirectory } = options
  return modelDirectory === undefined ? openRegistryOrigin(options) : openFolderOrigin({ ...options, modelDirectory })
}

/** Who hears of batches and deaths beside the telemetry. */
function listenersTo(
  observer: Observer,
  statistics: Statistics,
  models: ModelTable,
): Pick<Observer, 'onBatch' | 'onDeath'> {
  return {
    onBatch(version, batch, result) {
      statistics.onBatch(version, batch, result)
      observer.onBatch(version, batch, result)
    },
    onDeath(version, reason, isQuarantined) {
      observer.onDeath(version, reason, isQuarantined)
      if (isQuarantined) models.changed(version.model, version.number)
    },
  }
}

function runOptions(config: InferenceConfig) {
  return {
    limits: config,
    limitsOf: (model: string) => limitsFor(config, model),
    budget: new ThreadBudget(config.threads),
    startExecutor: chooseExecutor(config),
    executorsPerVersion: config.executorsPerVersion,
    intraOpThreads: config.intraOpThreads,
    restartPolicy: { firstDelayMs: 100, maxDelayMs: 10_000, maxDeaths: config.maxExecutorDeaths, windowMs: 600_000 },
  }
}
