import type { ModelVersion } from '@slipway/proto/slipway/registry/v1/model'
import type { ModelSource } from '../model-source.ts'
import type { ModelRepository } from '../repository.ts'
import type { Residency } from '../residency-loop.ts'
import type { WantedVersions } from '../wanted-versions.ts'

/** Where a server's versions come from, and who says which of them it should know. */
export interface ModelOrigin {
  readonly source: ModelSource
  /** What was declared of a version when it was registered; undefined where nothing is. Asks the registry: it may fail. */
  describe(name: string): Promise<ModelVersion | undefined>
  readonly wanted: WantedVersions
  /** How long a version stays that is not wanted any more, counted from its last caller. */
  readonly unwantedIdleMs: number
  /** Follows what is wanted from now on, and has the residency look again after each change. */
  follow(residency: Residency): void
  unfollow(): Promise<void>
  /** What loads and unloads models by their names alone. */
  repository(residency: Residency): ModelRepository
  /** Gives back what it has open; no version can be had any more. */
  close(): void
}
