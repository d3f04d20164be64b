/**
 * Which versions answer, by model and number, and which one answers when a caller names none.
 *
 * 1. A version is listed as ready only after it was verified and warmed up; a caller gets it in the turn in which it asks, so
 *    one that is taken off the list has no further callers and can be drained.
 * 2. The version without a number is the default alias's if it is ready; while that one is on its way, the one that was
 *    the default before stays, as long as it is ready; without an alias it is the newest that is ready.
 * 3. Nobody stands in for a version that was let go: who asks for it, by number or as the default, waits until it is loaded again.
 */
import type { Failure } from '@slipway/rpc'
import { refusal } from './refusals.ts'
import type { Servable } from './servable.ts'

/** Where one version stands. */
export type VersionState =
  /** `isMeasured` is false while its size is still asked for; `isAgain` is true after it was let go. */
  | { readonly kind: 'loading'; readonly isMeasured?: boolean; readonly isAgain?: boolean }
  | { readonly kind: 'ready'; readonly served: Servable; readonly readyTimeMs: number }
  | { readonly kind: 'unloading'; readonly served: Servable }
  | { readonly kind: 'failed'; readonly failure: Failure }
  /** Let go for now: it is loaded for the next caller who asks for it. */
  | {
      readonly kind: 'unloaded'
      readonly unloadedTimeMs: number
      /** The version as it was when it was loaded last, if this process loaded it. */
      readonly last?: Pick<Servable, 'digest' | 'sizeBytes'>
    }

interface Model {
  readonly versions: Map<string, VersionState>
  /** The number that the default alias points to. */
  aliased: string | undefined
  /** What answers a caller who names no version. */
  current: Servable | undefined
}

/** Hears that a version of a model stands elsewhere; without a version, that another one may be the default. */
export type TableListener = (model: string, version: string | undefined) => void

/** Loads what a caller asks for and is not there; undefined when there is no such version to be had. '' stands for the default. */
export type LoadMissing = (model: string, version: string) => Promise<Servable> | undefined

/** See the top of this file. */
export class ModelTable {
  readonly #models = new Map<string, Model>()
  readonly #listeners: TableListener[] = []
  #load: LoadMissing = () => undefined

  /** The version that answers, '' standing for the default. Throws NOT_FOUND, UNAVAILABLE or why it cannot be had. */
  resolve(model: string, version: string): Servable {
    const entry = this.#models.get(model)
    if (entry === undefined) throw refusal.unknownModel(model)
    if (version === '') return this.#resolveDefault(model, entry)
    const state = entry.versions.get(version)
    if (state?.kind === 'ready') return this.#usable(state.served)
    if (state === undefined) throw refusal.unknownVersion(model, version)
    if (state.kind === 'failed') throw state.failure
    throw refusal.notReady(model, version)
  }

  /** The same, but a version that can be loaded on demand is, and is answered as a promise. */
  acquire(model: string, version: string): Servable | Promise<Servable> {
    try {
      return this.resolve(model, version)
    } catch (error) {
      const loading = this.#load(model, version)
      if (loading === undefined) throw error
      return loading
    }
  }

  /** Says how a version comes that is asked for and not there. */
  loadMissingWith(load: LoadMissing): void {
    this.#load = load
  }

  /** Has someone hear of every change from now on, in the turn in which it happens. */
  onChange(listener: TableListener): void {
    this.#listeners.push(listener)
  }

  /** Sets where a version stands; undefined takes it off the list. */
  set(model: string, version: string, state: VersionState | undefined): void {
    const entry = this.#entry(model)
    if (state === undefined) entry.versions.delete(version)
    else entry.versions.set(version, state)
    this.#choose(entry)
    if (entry.versions.size === 0 && entry.aliased === undefined) this.#models.delete(model)
    this.#tell(model, version)
  }

  /** Says which number the default alias of a model points to. */
  setDefault(model: string, version: string | undefined): void {
    const entry = this.#entry(model)
    entry.aliased = version
    this.#choose(entry)
    if (entry.versions.size === 0 && version === undefined) this.#models.delete(model)
    this.#tell(model, undefined)
  }

  /** The number that stands for a model's default: the alias's, else the newest known; undefined for an unknown model. */
  defaultNumber(model: string): string | undefined {
    const entry = this.#models.get(model)
    return entry?.aliased ?? entry?.current?.number ?? newestOf(entry)
  }

  /** Where a version stands. */
  get(model: string, version: string): VersionState | undefined {
    return this.#models.get(model)?.versions.get(version)
  }

  /** True when something is known of a model: a version, or what its default should be. */
  has(model: string): boolean {
    return this.#models.has(model)
  }

  /** The numbers of a model's versions that are ready, ascending. */
  readyVersions(model: string): readonly string[] {
    const entry = this.#models.get(model)
    if (entry === undefined) return []
    const ready = [...entry.versions].filter(([, state]) => state.kind === 'ready').map(([number]) => number)
    return ready.sort((left, right) => Number(left) - Number(right))
  }

  /** All versions and where they stand. */
  *[Symbol.iterator](): Generator<{ model: string; version: string; state: VersionState }> {
    for (const [model, { versions }] of this.#models) {
      for (const [version, state] of versions) yield { model, version, state }
    }
  }

  /**
   * True when a version answers who asks for it, '' standing for the default: now, or once it is loaded again for that.
   * Unlike `resolve` it is no use of the version.
   */
  isReady(model: string, version: string): boolean {
    const entry = this.#models.get(model)
    const number = version === '' ? (entry?.current?.number ?? this.defaultNumber(model)) : version
    const state = number === undefined ? undefined : entry?.versions.get(number)
    return state?.kind === 'ready' ? !state.served.isQuarantined : isLetGo(state)
  }

  /** The version that would answer now, '' standing for the default; undefined when none would. It is no use of the version. */
  peek(model: string, version: string): Servable | undefined {
    const entry = this.#models.get(model)
    if (version === '') return entry?.current
    const state = entry?.versions.get(version)
    return state?.kind === 'ready' ? state.served : undefined
  }

  /** Has the listeners hear of a version that changed by itself: it was quarantined. */
  changed(model: string, version: string): void {
    this.#tell(model, version)
  }

  #tell(model: string, version: string | undefined): void {
    for (const listener of this.#listeners) listener(model, version)
  }

  #entry(model: string): Model {
    let entry = this.#models.get(model)
    if (entry === undefined) {
      entry = { versions: new Map(), aliased: undefined, current: undefined }
      this.#models.set(model, entry)
    }
    return entry
  }

  #resolveDefault(model: string, entry: Model): Servable {
    if (entry.current !== undefined) return this.#usable(entry.current)
    const states = [...entry.versions.values()]
    if (states.some(({ kind }) => kind === 'loading' || kind === 'unloaded'))
      throw refusal.notReady(model, entry.aliased ?? 'to be chosen')
    for (const state of states) if (state.kind === 'failed') throw state.failure
    throw refusal.noVersions(model)
  }

  #usable(served: Servable): Servable {
    if (served.isQuarantined) throw refusal.quarantined(served.model, served.number)
    served.lastUsedMs = Date.now()
    return served
  }

  #choose(entry: Model): void {
    const ready = (version: string | undefined): Servable | undefined => {
      const state = version === undefined ? undefined : entry.versions.get(version)
      return state?.kind === 'ready' ? state.served : undefined
    }
    const newest = () => ready(newestOf(entry, (state) => state.kind === 'ready'))
    const { aliased, current } = entry
    if (aliased === undefined) entry.current = newest()
    else if (isLetGo(entry.versions.get(aliased))) entry.current = ready(current?.number)
    else entry.current = ready(aliased) ?? ready(current?.number) ?? newest()
  }
}

function isLetGo(state: VersionState | undefined): boolean {
  return state?.kind === 'unloaded' || (state?.kind === 'loading' && state.isAgain === true)
}

/** The highest number of a model's versions that are as asked. */
function newestOf(
  entry: Model | undefined,
  isMeant: (state: VersionState) => boolean = () => true,
): string | undefined {
  let newest: string | undefined
  for (const [number, state] of entry?.versions ?? []) {
    if (isMeant(state) && (newest === undefined || Number(number) > Number(newest))) newest = number
  }
  return newest
}
