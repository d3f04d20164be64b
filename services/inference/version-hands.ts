/**
 * What is done with one version at a time: its load, its end, and what is remembered of both.
 *
 * 1. A version is put into the table as ready after it was verified, started and warmed up; it is taken out before it is drained.
 * 2. One load of a version at a time; everybody who asks for it waits for that one, and is told how it ended.
 */
import { Failure } from '@slipway/rpc'
import type { LoadWaiters } from './load-waiters.ts'
import { splitVersionName } from './model-source.ts'
import type { VersionState } from './model-table.ts'
import { refusal } from './refusals.ts'
import type { ResidencyOptions } from './residency-loop.ts'
import type { LoadRecord } from './residency-snapshot.ts'
import type { Servable } from './servable.ts'

/** What it needs from around it. */
export interface VersionHandsOptions extends ResidencyOptions {
  readonly waiters: LoadWaiters
  /** Something wants the version, so that it is remembered when it is let go. */
  readonly isWanted: (name: string) => boolean
  /** Something has come to its end, so that something else may begin. */
  readonly onChange: () => void
}

/** See the top of this file. */
export class VersionHands {
  readonly records = new Map<string, LoadRecord>()
  /** Loads, and questions for a size, that are on their way; they never reject. */
  readonly loads = new Map<string, Promise<void>>()
  readonly #drains = new Set<Promise<void>>()
  readonly #options: VersionHandsOptions

  constructor(options: VersionHandsOptions) {
    this.#options = options
  }

  /** Asks how large a version is. */
  measure(name: string): Promise<void> {
    this.#set(name, { kind: 'loading', isMeasured: false })
    return this.#track(name, this.#measure(name))
  }

  /** Loads a version; who waits for it is told how it ended. One that is ready answers until the new one does. */
  load(name: string): Promise<void> {
    return this.#track(name, this.#load(name))
  }

  /** Lets a version go when it has answered what it took; one that is still wanted comes back when it was for want of use or memory. */
  unload(name: string, reason: string): Promise<void> {
    const drain = this.#unload(name, reason).finally(() => this.#drains.delete(drain))
    this.#drains.add(drain)
    return drain
  }

  /** Marks a version as one that comes when it is asked for. */
  setUnloaded(name: string, served?: Servable): void {
    this.#options.wanted.setUnloaded(name, true)
    const last = served && { digest: served.digest, sizeBytes: served.sizeBytes }
    this.#set(name, { kind: 'unloaded', unloadedTimeMs: Date.now(), ...(last === undefined ? {} : { last }) })
  }

  /** Takes a version off the table, with all that is known of it. */
  forget(name: string): void {
    const { model, number } = splitVersionName(name)
    this.#set(name, undefined)
    this.#options.wanted.setUnloaded(name, false)
    this.records.delete(name)
    this.#options.waiters.fail(name, refusal.unknownVersion(model, number))
  }

  /** Notes that a version cannot be had; one that is ready goes on. */
  fail(name: string, failure: Failure): void {
    const record = this.records.get(name)
    const failures = (record?.failures ?? 0) + 1
    this.records.set(name, { failures, failedMs: Date.now(), memoryBytes: record?.memoryBytes })
    if (this.#get(name)?.kind !== 'ready') this.#set(name, { kind: 'failed', failure })
    this.#options.onLoadFailed?.(name, failure)
    this.#options.waiters.fail(name, failure)
  }

  /** Resolves when everything that was let go has ended. */
  async drained(): Promise<void> {
    await Promise.allSettled([...this.#drains])
  }

  #track(name: string, load: Promise<void>): Promise<void> {
    const tracked = load.finally(() => {
      this.loads.delete(name)
      this.#options.onChange()
    })
    this.loads.set(name, tracked)
    return tracked
  }

  async #measure(name: string): Promise<void> {
    try {
      await this.#options.source.files(name)
      this.#set(name, undefined)
    } catch (error) {
      this.fail(name, asLoadFailure(name, error))
    }
  }

  async #load(name: string): Promise<void> {
    const { start, wanted, waiters, onLoaded, onError } = this.#options
    const begunMs = Date.now()
    const before = this.#get(name)
    if (before?.kind !== 'ready') this.#set(name, { kind: 'loading', isAgain: before?.kind === 'unloaded' })
    let served: Servable
    try {
      served = await start(name)
    } catch (error) {
      this.fail(name, asLoadFailure(name, error))
      return
    }
    this.records.set(name, { failures: 0, failedMs: 0, memoryBytes: served.memoryBytes })
    this.#set(name, { kind: 'ready', served, readyTimeMs: Date.now() })
    wanted.setUnloaded(name, false)
    onLoaded?.(served, Date.now() - begunMs)
    waiters.settle(name, served)
    await wanted.flush().catch((error: unknown) => onError?.(error))
    if (before?.kind === 'ready') await before.served.drain().catch((error: unknown) => onError?.(error))
  }

  async #unload(name: string, reason: string): Promise<void> {
    const { source, wanted, isWanted, onUnloaded, onError, onChange } = this.#options
    const found = this.#get(name)
    if (found?.kind === 'failed' || found?.kind === 'unloaded') this.forget(name)
    if (found?.kind !== 'ready') return
    this.#set(name, { kind: 'unloading', served: found.served })
    await found.served.drain().catch((error: unknown) => onError?.(error))
    await source.letGo(name).catch((error: unknown) => onError?.(error))
    const now = this.#get(name)
    if (now?.kind === 'unloading' && now.served === found.served) {
      if ((reason === 'idle' || reason === 'memory') && isWanted(name)) this.setUnloaded(name, found.served)
      else this.forget(name)
    }
    wanted.prune(isWanted)
    await wanted.flush().catch((error: unknown) => onError?.(error))
    onUnloaded?.(name, reason)
    onChange()
  }

  #get(name: string): VersionState | undefined {
    const { model, number } = splitVersionName(name)
    return this.#options.models.get(model, number)
  }

  #set(name: string, state: VersionState | undefined): void {
    const { model, number } = splitVersionName(name)
    this.#options.models.set(model, number, state)
  }
}

function asLoadFailure(name: string, error: unknown): Failure {
  const { model, number } = splitVersionName(name)
  if (error instanceof Failure) return error
  return refusal.loadFailed(model, number, error instanceof Error ? error.message : String(error), error)
}
