/**
 * Carries out what `residency.ts` decides: loads versions, lets them go, and tells the table who answers.
 *
 * 1. A version is put into the table after it was verified, started and warmed up; it is taken out before it is drained.
 * 2. One load of a version at a time; everybody who asks for it waits for that one.
 * 3. A version that is asked for is on disk as such before its caller is told that it is ready.
 */
import { Failure } from '@slipway/rpc'
import type { ModelSource } from './model-source.ts'
import { splitVersionName } from './model-source.ts'
import type { ModelTable } from './model-table.ts'
import { refusal } from './refusals.ts'
import type { RegistryState } from './registry-state.ts'
import { nextAction, type ResidencyPolicy, type VersionSnapshot } from './residency.ts'
import type { Servable } from './servable.ts'

/** What the loop needs from around it. */
export interface ResidencyOptions {
  readonly state: RegistryState
  readonly source: ModelSource
  readonly models: ModelTable
  /** Fetches, verifies, starts and warms up a version. */
  readonly start: (name: string) => Promise<Servable>
  readonly policy: ResidencyPolicy
  /** The alias whose version answers when a caller names none. */
  readonly defaultAlias: string
  readonly onLoaded?: (served: Servable, tookMs: number) => void
  readonly onLoadFailed?: (name: string, failure: Failure) => void
  readonly onUnloaded?: (name: string, reason: string) => void
  /** Hears what nothing else handles. */
  readonly onError?: (error: unknown) => void
}

interface LoadFailures {
  count: number
  lastMs: number
}

const MAX_TIMER_MS = 60_000

/** See the top of this file. */
export class Residency {
  readonly #options: ResidencyOptions
  readonly #loads = new Map<string, Promise<Servable>>()
  readonly #drains = new Set<Promise<void>>()
  readonly #failures = new Map<string, LoadFailures>()
  #timer: NodeJS.Timeout | undefined
  #isPlanned = false
  #isStopped = false

  constructor(options: ResidencyOptions) {
    this.#options = options
  }

  /** Looks again at what should be loaded; call it after every change of what is wanted. */
  consider(): void {
    if (this.#isPlanned || this.#isStopped) return
    this.#isPlanned = true
    setImmediate(() => {
      this.#isPlanned = false
      if (!this.#isStopped) this.#act()
    })
  }

  /** Follows the aliases; to be called after one has moved. */
  followAliases(): void {
    const { state, models, defaultAlias } = this.#options
    const wanted = new Map<string, string>()
    for (const [alias, version] of Object.entries(state.aliases)) {
      const [, model, name] = alias.split('/').filter((part) => part !== 'aliases')
      if (model !== undefined && name === defaultAlias) wanted.set(model, splitVersionName(version).number)
    }
    const known = new Set([...models].map(({ model }) => model))
    for (const model of known) if (!wanted.has(model)) models.setDefault(model, undefined)
    for (const [model, number] of wanted) models.setDefault(model, number)
    this.consider()
  }

  /** Has a version loaded and keeps it. Resolves when it answers, fails with why it cannot. */
  async load(name: string, expectedDigest: string): Promise<Servable> {
    const { state, source } = this.#options
    const { model, number } = splitVersionName(name)
    const { digest } = await source.manifest(name)
    if (expectedDigest !== '' && digest !== expectedDigest) {
      throw refusal.digestMismatch(name, expectedDigest, digest)
    }
    const wasPinned = state.pinned.includes(name)
    state.setPinned(name, true)
    const found = this.#options.models.get(model, number)
    const served =
      found?.kind === 'ready'
        ? found.served
        : await this.#load(name).catch((error: unknown) => {
            // Its caller was told; nobody else waits for it to be tried again.
            state.setPinned(name, wasPinned)
            throw error
          })
    served.lastUsedMs = Date.now()
    await state.flush()
    this.consider()
    return served
  }

  /** Lets a version go once it has answered what it took. FAILED_PRECONDITION when an alias points to it. */
  async unload(name: string): Promise<void> {
    const { state } = this.#options
    if (Object.values(state.aliases).includes(name)) throw refusal.aliased(name)
    state.setPinned(name, false)
    await state.flush()
    await this.#loads.get(name)?.catch(() => undefined)
    await this.#unload(name, 'asked')
  }

  /** Resolves when no load is on its way: what should be served is, or has failed. */
  async settled(): Promise<void> {
    this.#act()
    while (this.#loads.size > 0) {
      await Promise.allSettled([...this.#loads.values()])
      this.#act()
    }
  }

  /** Ends everything that was loaded, after it has answered what it took. */
  async stop(): Promise<void> {
    this.#isStopped = true
    clearTimeout(this.#timer)
    await Promise.allSettled([...this.#loads.values()])
    const ready = [...this.#options.models].filter(({ state }) => state.kind === 'ready')
    for (const { model, version } of ready)
      this.#drains.add(this.#unload(`models/${model}/versions/${version}`, 'stopping'))
    await Promise.allSettled([...this.#drains])
    await this.#options.state.flush()
  }

  #act(): void {
    for (;;) {
      const snapshot = this.#snapshot()
      const action = nextAction(snapshot, Date.now(), this.#options.policy)
      if (action.kind === 'wait') {
        clearTimeout(this.#timer)
        const delayMs = Math.min(action.untilMs - Date.now(), MAX_TIMER_MS)
        this.#timer = setTimeout(() => this.consider(), Math.max(delayMs, 1)).unref()
        return
      }
      if (action.kind === 'load') this.#load(action.name).catch(() => undefined)
      else {
        if (this.#options.state.pinned.includes(action.name)) this.#options.state.setPinned(action.name, false)
        const drain = this.#unload(action.name, action.reason).finally(() => this.#drains.delete(drain))
        this.#drains.add(drain)
      }
    }
  }

  #snapshot(): VersionSnapshot[] {
    const { state, models } = this.#options
    const aliased = new Set(Object.values(state.aliases))
    const pinned = new Set(state.pinned)
    const names = new Set([...aliased, ...pinned])
    for (const { model, version } of models) names.add(`models/${model}/versions/${version}`)
    return [...names].map((name) => {
      const { model, number } = splitVersionName(name)
      const found = models.get(model, number)
      const failures = this.#failures.get(name)
      const served = found?.kind === 'ready' || found?.kind === 'unloading' ? found.served : undefined
      return {
        name,
        model,
        state: found?.kind ?? 'absent',
        isAliased: aliased.has(name),
        isPinned: pinned.has(name),
        sizeBytes: served?.sizeBytes ?? 0,
        lastUsedMs: served?.lastUsedMs ?? 0,
        failures: failures?.count ?? 0,
        failedMs: failures?.lastMs ?? 0,
      }
    })
  }

  #load(name: string): Promise<Servable> {
    const known = this.#loads.get(name)
    if (known !== undefined) return known
    const load = this.#start(name).finally(() => {
      this.#loads.delete(name)
      this.consider()
    })
    this.#loads.set(name, load)
    return load
  }

  async #start(name: string): Promise<Servable> {
    const { start, models, state, onLoaded, onLoadFailed } = this.#options
    const { model, number } = splitVersionName(name)
    const begunMs = Date.now()
    models.set(model, number, { kind: 'loading' })
    try {
      const served = await start(name).catch((error: unknown) => {
        throw error instanceof Failure
          ? error
          : refusal.loadFailed(model, number, String((error as Error).message), error)
      })
      this.#failures.delete(name)
      models.set(model, number, { kind: 'ready', served, readyTimeMs: Date.now() })
      onLoaded?.(served, Date.now() - begunMs)
      await state.flush()
      return served
    } catch (error) {
      const failure = Failure.from(error)
      const failures = this.#failures.get(name)
      this.#failures.set(name, { count: (failures?.count ?? 0) + 1, lastMs: Date.now() })
      models.set(model, number, { kind: 'failed', failure })
      onLoadFailed?.(name, failure)
      throw failure
    }
  }

  async #unload(name: string, reason: string): Promise<void> {
    const { models, state, onUnloaded, onError } = this.#options
    const { model, number } = splitVersionName(name)
    const found = models.get(model, number)
    if (found?.kind === 'failed') models.set(model, number, undefined)
    if (found?.kind !== 'ready') return
    models.set(model, number, { kind: 'unloading', served: found.served })
    try {
      await found.served.drain()
    } catch (error) {
      onError?.(error)
    }
    const now = models.get(model, number)
    if (now?.kind === 'unloading' && now.served === found.served) models.set(model, number, undefined)
    state.prune((version) => state.pinned.includes(version) || Object.values(state.aliases).includes(version))
    await state.flush().catch((error: unknown) => onError?.(error))
    onUnloaded?.(name, reason)
  }
}
