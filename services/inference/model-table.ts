/**
 * Which versions answer, by model and number, and which one answers when a caller names none.
 *
 * 1. A version is listed as ready only after it was verified and warmed up; a caller gets it in the turn in which it asks, so
 *    one that is taken off the list has no further callers and can be drained.
 * 2. The version without a number is the default alias's if it is ready; while that one is on its way, the one that was
 *    the default before stays, as long as it is ready; without an alias it is the newest that is ready.
 */
import type { Failure } from '@slipway/rpc'
import { refusal } from './refusals.ts'
import type { Servable } from './servable.ts'

/** Where one version stands. */
export type VersionState =
  | { readonly kind: 'loading' }
  | { readonly kind: 'ready'; readonly served: Servable; readonly readyTimeMs: number }
  | { readonly kind: 'unloading'; readonly served: Servable }
  | { readonly kind: 'failed'; readonly failure: Failure }

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

  /** True when a version answers, '' standing for the default; unlike `resolve` it is no use of it. */
  isReady(model: string, version: string): boolean {
    const entry = this.#models.get(model)
    const state = entry?.versions.get(version === '' ? (entry.current?.number ?? '') : version)
    return state?.kind === 'ready' && !state.served.isQuarantined
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
    if (states.some(({ kind }) => kind === 'loading')) throw refusal.notReady(model, entry.aliased ?? 'to be chosen')
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
    const numbers = [...entry.versions.keys()].sort((left, right) => Number(right) - Number(left))
    const newest = () => ready(numbers.find((number) => ready(number) !== undefined))
    if (entry.aliased === undefined) entry.current = newest()
    else entry.current = ready(entry.aliased) ?? ready(entry.current?.number) ?? newest()
  }
}
