/**
 * Versions come from a folder in Triton's layout, which may be followed: what appears is loaded, what is gone is let go.
 *
 * 1. A version is taken up once its files have been the same for a while: what is still being copied is not loaded.
 * 2. The version before it answers until the new one does; when that one cannot be loaded, it goes on.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { ConfigError } from '@slipway/config'
import type { Logger } from '@slipway/telemetry'
import { versionName } from '../model-source.ts'
import type { ModelTable } from '../model-table.ts'
import { refusal } from '../refusals.ts'
import type { Residency } from '../residency-loop.ts'
import { FolderError, type FolderScan, type FoundVersion, scanFolder } from './folder-scan.ts'
import { FolderSource } from './folder-source.ts'
import { FolderWanted, type VersionChoice } from './folder-wanted.ts'
import type { ModelOrigin } from './model-origin.ts'

/** What an origin needs from around it. */
export interface FolderOriginOptions {
  readonly modelDirectory: string
  /** How often the folder is looked at; 0: once. */
  readonly modelPollMs: number
  readonly modelVersions: VersionChoice
  readonly defaultAlias: string
  readonly models: ModelTable
  readonly log: Logger
}

/** What was not changed for so long is complete. */
const SETTLE_MS = 1000
/** Looks at the start for files that are still being copied. */
const MAX_FIRST_LOOKS = 30

/** Opens it. Throws a ConfigError when the folder is none, or holds no model and is not followed. */
export async function openFolderOrigin(options: FolderOriginOptions): Promise<ModelOrigin> {
  const { modelDirectory, modelPollMs, models, log } = options
  const folder = new Folder(modelDirectory, log)
  const wanted = new FolderWanted(options.defaultAlias, options.modelVersions)
  await folder.open(modelPollMs > 0)
  wanted.setVersions(folder.versions)
  const stopping = new AbortController()
  let following: Promise<void> | undefined
  const look = async (residency: Residency): Promise<void> => {
    const changed = await folder.look()
    wanted.setVersions(folder.versions)
    residency.followAliases()
    await Promise.all(changed.map((name) => residency.reload(name)))
  }
  return {
    wanted,
    source: new FolderSource((name) => folder.versions.get(name)),
    unwantedIdleMs: 0,
    describe: async () => undefined,
    follow(residency) {
      residency.followAliases()
      if (modelPollMs > 0) following = poll(modelPollMs, stopping.signal, () => look(residency), log)
    },
    unfollow: async () => {
      stopping.abort()
      await following
    },
    repository: (residency) => ({
      load: async (model) => {
        wanted.withdraw(model, false)
        await look(residency)
        await residency.loadModel(model)
      },
      unload: async (model) => {
        if (!models.has(model)) throw refusal.unknownModel(model)
        wanted.withdraw(model, true)
        const versions = [...models].filter((each) => each.model === model)
        residency.followAliases()
        for (const { version } of versions) await residency.unload(versionName(model, version))
      },
    }),
    close: () => undefined,
  }
}

/** The folder as it was last seen. */
class Folder {
  readonly #directory: string
  readonly #log: Logger
  /** Versions that are there and complete. */
  versions: ReadonlyMap<string, FoundVersion> = new Map()
  #seen: FolderScan | undefined

  constructor(directory: string, log: Logger) {
    this.#directory = directory
    this.#log = log
  }

  /** The first look: waits a while for what is still being copied. */
  async open(mayBeEmpty: boolean): Promise<void> {
    try {
      await this.look()
      for (let looks = 1; looks < MAX_FIRST_LOOKS && this.versions.size < (this.#seen?.versions.size ?? 0); looks++) {
        await sleep(SETTLE_MS)
        await this.look()
      }
    } catch (error) {
      if (error instanceof FolderError) throw this.#wrong(error.message)
      throw error
    }
    const problems = this.#seen?.problems ?? []
    if (this.versions.size === 0 && !mayBeEmpty)
      throw this.#wrong([`${this.#directory} holds no model, such as my-model/1/model.onnx`, ...problems].join('; '))
    for (const problem of problems) this.#warn(problem)
  }

  /** Looks again; returns the versions whose files have become others since they were taken up. */
  async look(): Promise<readonly string[]> {
    const scan = await scanFolder(this.#directory)
    const changed: string[] = []
    const taken = new Map<string, FoundVersion>()
    for (const [name, found] of scan.versions) {
      const before = this.versions.get(name)
      if (before?.fingerprint === found.fingerprint) taken.set(name, before)
      else if (this.#isComplete(found)) {
        taken.set(name, found)
        if (before !== undefined) changed.push(name)
      } else if (before !== undefined) taken.set(name, before)
    }
    const isNew = (problem: string): boolean => this.#seen?.problems.includes(problem) === false
    for (const problem of scan.problems.filter(isNew)) this.#warn(problem)
    this.#seen = scan
    this.versions = taken
    return changed
  }

  /** The same in two looks, or in the first one, and not changed just now. */
  #isComplete({ name, fingerprint, changedMs }: FoundVersion): boolean {
    const isSame = this.#seen === undefined || this.#seen.versions.get(name)?.fingerprint === fingerprint
    return isSame && changedMs + SETTLE_MS <= Date.now()
  }

  #warn(problem: string): void {
    this.#log.warn('the folder holds what is no model', { problem })
  }

  #wrong(problem: string): ConfigError {
    return new ConfigError([{ name: 'SLIPWAY_INFERENCE_MODEL_DIRECTORY', problem, doc: 'a folder of models' }])
  }
}

async function poll(everyMs: number, signal: AbortSignal, look: () => Promise<void>, log: Logger): Promise<void> {
  let problem: string | undefined
  for (;;) {
    await sleep(everyMs, undefined, { signal, ref: false }).catch(() => undefined)
    if (signal.aborted) return
    try {
      await look()
      problem = undefined
    } catch (error) {
      // What is loaded goes on; a folder that is gone for a moment is no reason to let its models go.
      const text = error instanceof Error ? error.message : String(error)
      if (text !== problem) log.warn('the folder of models cannot be looked at', { problem: text })
      problem = text
    }
  }
}
