/**
 * Has done what `residency.ts` decides, and takes in what is asked of it.
 *
 * 1. A version that is asked for is kept as such before its caller is told that it is ready.
 * 2. A version that was let go while it is wanted stays on the table, and is loaded for the first caller who asks.
 * 3. A load that has failed is tried again after a while, not at each call.
 */
import { setImmediate } from 'node:timers/promises'
import type { Failure } from '@slipway/rpc'
import { LoadWaiters } from './load-waiters.ts'
import { type ModelSource, splitVersionName, versionName } from './model-source.ts'
import type { ModelTable } from './model-table.ts'
import { refusal } from './refusals.ts'
import { nextAction, type ResidencyAction, type ResidencyPolicy, retryDueMs } from './residency.ts'
import { takeSnapshot } from './residency-snapshot.ts'
import type { Servable } from './servable.ts'
import { VersionHands } from './version-hands.ts'
import type { AskedBy, WantedVersions } from './wanted-versions.ts'

/** What the loop needs from around it. */
export interface ResidencyOptions {
  readonly wanted: WantedVersions
  readonly source: ModelSource
  readonly models: ModelTable
  /** Fetches, verifies, starts and warms up a version. */
  readonly start: (name: string) => Promise<Servable>
  readonly policy: ResidencyPolicy
  /** Memory that a version whose files have so many bytes will take. */
  readonly estimateBytes: (fileBytes: number) => number
  /** Callers that may wait for one version. */
  readonly maxWaiters: number
  /** The alias whose version answers when a caller names none. */
  readonly defaultAlias: string
  readonly onLoaded?: (served: Servable, tookMs: number) => void
  readonly onLoadFailed?: (name: string, failure: Failure) => void
  readonly onUnloaded?: (name: string, reason: string) => void
  /** Hears what nothing else handles. */
  readonly onError?: (error: unknown) => void
}

/** A version that stays loaded until it is released. */
export interface HeldVersion {
  readonly served: Servable
  release(): void
}

const MAX_TIMER_MS = 60_000
/** Decisions look at every version that is known: with a thousand of them calls must get their turn in between. */
const MAX_ACTIONS_PER_TURN = 4

/** See the top of this file. */
export class Residency {
  readonly #options: ResidencyOptions
  readonly #waiters: LoadWaiters
  readonly #holds = new Map<string, number>()
  readonly #hands: VersionHands
  #timer: NodeJS.Timeout | undefined
  #isPlanned = false
  #isStopped = false

  constructor(options: ResidencyOptions) {
    const { models, wanted, maxWaiters } = options
    this.#options = options
    this.#waiters = new LoadWaiters(maxWaiters)
    this.#hands = new VersionHands({
      ...options,
      waiters: this.#waiters,
      isWanted: (name) => this.#isWanted(name),
      onChange: () => this.consider(),
    })
    for (const name of wanted.unloaded) this.#hands.setUnloaded(name)
    models.loadMissingWith((model, number) => this.#demand(model, number))
  }

  /** Looks again at what should be loaded; call it after every change of what is wanted. */
  consider(): void {
    if (this.#isPlanned || this.#isStopped) return
    this.#isPlanned = true
    void setImmediate().then(() => {
      this.#isPlanned = false
      if (!this.#isStopped) this.#act()
    })
  }

  /** Follows the aliases; to be called after one has moved. */
  followAliases(): void {
    const { wanted, models, defaultAlias } = this.#options
    const defaults = new Map<string, string>()
    for (const [alias, version] of Object.entries(wanted.aliases)) {
      const [, model, name] = alias.split('/').filter((part) => part !== 'aliases')
      if (model !== undefined && name === defaultAlias) defaults.set(model, splitVersionName(version).number)
    }
    const known = new Set([...models].map(({ model }) => model))
    for (const model of known) if (!defaults.has(model)) models.setDefault(model, undefined)
    for (const [model, number] of defaults) models.setDefault(model, number)
    for (const { model, version, state } of [...models]) {
      const name = versionName(model, version)
      if ((state.kind === 'unloaded' || state.kind === 'failed') && !this.#isWanted(name)) this.#hands.forget(name)
    }
    this.consider()
  }

  /** Has a version loaded and keeps it wanted. Resolves when it answers, fails with why it cannot. */
  async load(name: string, expectedDigest: string, by: AskedBy): Promise<Servable> {
    const { wanted } = this.#options
    await this.#checkDigest(name, expectedDigest)
    const before = wanted.asked[name]
    wanted.setAsked(name, before === 'endpoint' ? before : by)
    const served = await this.#loadNow(name).catch((error: unknown) => {
      // Its caller was told; nobody else waits for it to be tried again.
      wanted.setAsked(name, before)
      throw error
    })
    await wanted.flush()
    this.consider()
    return served
  }

  /** Has the version loaded that answers when none is named; nothing is wanted that was not before. */
  async loadModel(model: string): Promise<void> {
    const number = this.#options.models.defaultNumber(model)
    if (number === undefined) throw refusal.unknownModel(model)
    await this.#loadNow(versionName(model, number))
  }

  /**
   * Loads a version if it is not there and keeps it, whatever the policy, until it is released. For what cannot answer
   * without it: such loads wait for no other. FAILED_PRECONDITION when the version has another digest.
   */
  async hold(name: string, expectedDigest: string): Promise<HeldVersion> {
    this.#holds.set(name, (this.#holds.get(name) ?? 0) + 1)
    let isReleased = false
    const release = (): void => {
      if (isReleased) return
      isReleased = true
      const left = (this.#holds.get(name) ?? 1) - 1
      if (left > 0) this.#holds.set(name, left)
      else this.#holds.delete(name)
      this.consider()
    }
    try {
      await this.#checkDigest(name, expectedDigest)
      return { served: await this.#loadNow(name), release }
    } catch (error) {
      release()
      throw error
    }
  }

  /** Lets a version go for good once it has answered what it took. FAILED_PRECONDITION when something needs it. */
  async unload(name: string): Promise<void> {
    const { wanted } = this.#options
    if (Object.values(wanted.aliases).includes(name)) throw refusal.aliased(name)
    if (this.#holds.has(name)) throw refusal.held(name)
    wanted.setAsked(name, undefined)
    await wanted.flush()
    await this.#hands.loads.get(name)
    await this.#hands.unload(name, 'asked')
  }

  /** Lets all versions of a model go. */
  async unloadModel(model: string): Promise<void> {
    const names = [...this.#options.models].filter((each) => each.model === model)
    if (names.length === 0) throw refusal.unknownModel(model)
    for (const { version } of names) await this.unload(versionName(model, version))
  }

  /** Loads a version whose files have changed; the one before it answers until then, and goes on if the new one cannot be loaded. */
  async reload(name: string): Promise<void> {
    const { models } = this.#options
    const { model, number } = splitVersionName(name)
    this.#hands.records.delete(name)
    if (models.get(model, number)?.kind === 'ready' && !this.#holds.has(name)) await this.#hands.load(name)
    this.consider()
  }

  /** Resolves when no load is on its way: what should be served is, or has failed. */
  async settled(): Promise<void> {
    while (!this.#act() || this.#hands.loads.size > 0) {
      await (this.#hands.loads.size > 0 ? Promise.all([...this.#hands.loads.values()]) : setImmediate())
    }
  }

  /** Ends everything that was loaded, after it has answered what it took. */
  async stop(): Promise<void> {
    const { models, wanted } = this.#options
    this.#isStopped = true
    clearTimeout(this.#timer)
    this.#waiters.failAll(refusal.stopping())
    await Promise.all([...this.#hands.loads.values()])
    const ready = [...models].filter(({ state }) => state.kind === 'ready')
    for (const { model, version } of ready) void this.#hands.unload(versionName(model, version), 'stopping')
    await this.#hands.drained()
    await wanted.flush()
  }

  /** What a caller waits for who asks for a version that is not there; undefined when it will not come. */
  #demand(model: string, given: string): Promise<Servable> | undefined {
    const { models, policy } = this.#options
    const number = given === '' ? models.defaultNumber(model) : given
    if (number === undefined || this.#isStopped) return undefined
    const name = versionName(model, number)
    const state = models.get(model, number)
    if (state?.kind === 'ready' || !(this.#isWanted(name) || state?.kind === 'loading')) return undefined
    const record = this.#hands.records.get(name)
    const isTooSoon = record !== undefined && retryDueMs(record.failures, record.failedMs, policy) > Date.now()
    if (state?.kind === 'failed' && isTooSoon) return undefined
    this.consider()
    return this.#waiters.wait(name, Date.now())
  }

  /** The version, which is loaded if need be, also when it has just failed. */
  async #loadNow(name: string): Promise<Servable> {
    const { model, number } = splitVersionName(name)
    const found = this.#options.models.get(model, number)
    if (found?.kind === 'ready') {
      found.served.lastUsedMs = Date.now()
      return found.served
    }
    if (this.#isStopped) throw refusal.stopping()
    const record = this.#hands.records.get(name)
    if (record !== undefined) record.failedMs = Number.NEGATIVE_INFINITY
    this.consider()
    return await this.#waiters.wait(name, Date.now())
  }

  async #checkDigest(name: string, expected: string): Promise<void> {
    const { digest } = await this.#options.source.files(name)
    if (expected !== '' && digest !== expected) throw refusal.digestMismatch(name, expected, digest)
  }

  #isWanted(name: string): boolean {
    const { asked, aliases } = this.#options.wanted
    return asked[name] !== undefined || Object.values(aliases).includes(name) || this.#holds.has(name)
  }

  /** Does what is to be done, but not too much in one turn; true when there is nothing more to do now. */
  #act(): boolean {
    const view = { ...this.#options, waiters: this.#waiters, holds: this.#holds, records: this.#hands.records }
    for (let actions = 0; actions < MAX_ACTIONS_PER_TURN; actions++) {
      const action = nextAction(takeSnapshot(view), Date.now(), this.#options.policy)
      if (action.kind !== 'wait') {
        this.#carryOut(action)
        continue
      }
      clearTimeout(this.#timer)
      const delayMs = Math.min(action.untilMs - Date.now(), MAX_TIMER_MS)
      this.#timer = setTimeout(() => this.consider(), Math.max(delayMs, 1)).unref()
      return true
    }
    this.consider()
    return false
  }

  #carryOut(action: Exclude<ResidencyAction, { kind: 'wait' }>): void {
    const { name } = action
    switch (action.kind) {
      case 'measure':
        void this.#hands.measure(name)
        return
      case 'load':
        void this.#hands.load(name)
        return
      case 'defer':
        this.#hands.setUnloaded(name)
        return
      case 'refuse':
        this.#hands.fail(name, refusal.outOfMemory(name, action.neededBytes, this.#options.policy.maxMemoryBytes))
        return
      case 'forget':
        this.#options.wanted.setAsked(name, undefined)
        this.#hands.forget(name)
        return
      case 'unload':
        void this.#hands.unload(name, action.reason)
    }
  }
}
