import type { EventBus } from '@slipway/events'
import { ProfileService } from '@slipway/proto/slipway/inference/v1/profile_service'
import type { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { type Client, type Implementation, implement } from '@slipway/rpc'
import type { VersionFiles } from '../model-source.ts'
import { createStarter, type HoldVersion } from '../pipelines/start-pipeline.ts'
import type { RunOptions } from '../served-version.ts'
import { ThreadBudget } from '../thread-budget.ts'
import { createProfileService } from './service.ts'

/** What profiles need from around them. */
export interface ProfileOptions {
  /** How versions are run; the settings of a trial take their place. */
  readonly run: RunOptions
  /** Threads that models may keep busy at once. */
  readonly threads: number
  /** The files of a version. */
  readonly files: (name: string) => Promise<VersionFiles>
  /** How pipelines come to the versions that they pin: those run as they do for everybody, whatever the setting. */
  readonly hold: HoldVersion
  /** Where profiles are stored; undefined where versions come without a registry. */
  readonly registry: Client<typeof RegistryService> | undefined
  /** Where recorded requests are; undefined without a bus. */
  readonly bus: EventBus | undefined
}

/** Makes what answers `slipway.inference.v1.ProfileService`. */
export function createProfile({ run, threads, files, hold, registry, bus }: ProfileOptions): Implementation {
  const service = createProfileService({
    threads,
    bus,
    start: async (name, { executors, intraOpThreads, maxBatchRows }) => {
      const setting: RunOptions = {
        limits: { ...run.limits, maxBatchRows },
        budget: new ThreadBudget(threads),
        startExecutor: run.startExecutor,
        executorsPerVersion: executors,
        intraOpThreads,
        restartPolicy: run.restartPolicy,
      }
      return await createStarter({ run: setting, hold })(await files(name))
    },
    store:
      registry === undefined
        ? undefined
        : async (name, digest, profile) => void (await registry.recordServingProfile({ name, digest, profile })),
  })
  return implement(ProfileService, service)
}
