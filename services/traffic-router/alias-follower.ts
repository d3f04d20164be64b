/**
 * Keeps variants on the versions that their aliases name. A change that the registry reports is only a sign to look:
 * what is applied is always the alias as it is now, so that a lost, repeated or late sign does no harm.
 *
 * 1. After every connection to the registry each followed alias is looked at once, and after every change of an
 *    endpoint those that it follows: the alias may have moved while the change was made.
 * 2. A registry that has other revisions than those that were followed is followed from its beginning.
 * 3. An alias that could not be followed is tried again, with growing pauses, until it can be or nobody follows it.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { type Client, Code, Failure } from '@slipway/rpc'
import type { Logger } from '@slipway/telemetry'
import type { Deployment } from './deployment.ts'
import type { EndpointStore } from './endpoint-store.ts'
import type { RoutingTable, ServedEndpoint } from './routing-table.ts'

/** What following needs. */
export interface AliasFollowerOptions {
  readonly registry: Pick<Client<typeof RegistryService>, 'watch'>
  readonly deployment: Pick<Deployment, 'follow'>
  readonly store: Pick<EndpointStore, 'registryRevision' | 'setRegistryRevision'>
  readonly table: RoutingTable
  readonly log: Logger
}

const FIRST_PAUSE_MS = 100
const MAX_PAUSE_MS = 5_000
/** The registry gives a sign of life far more often. */
const MAX_SILENCE_MS = 60_000

/** Follows aliases until it is stopped. */
export class AliasFollower {
  readonly #options: AliasFollowerOptions
  readonly #stopping = new AbortController()
  /** Aliases to look at. */
  readonly #due = new Set<string>()
  #wake: () => void = () => {}
  #stopListening: () => void = () => {}
  #loops: Promise<unknown> = Promise.resolve()

  constructor(options: AliasFollowerOptions) {
    this.#options = options
  }

  /** Starts to follow. */
  start(): void {
    this.#stopListening = this.#options.table.onChange((endpoint) => this.#lookAt(aliasesOf(endpoint)))
    this.#loops = Promise.all([this.#watch(), this.#work()])
  }

  /** Stops and waits until nothing is under way. */
  async stop(): Promise<void> {
    this.#stopListening()
    this.#stopping.abort()
    this.#wake()
    await this.#loops
  }

  async #watch(): Promise<void> {
    const state = { pauseMs: FIRST_PAUSE_MS, isLost: false }
    while (!this.#stopping.signal.aborted) {
      try {
        await this.#watchOnce(state)
      } catch (error) {
        if (this.#stopping.signal.aborted) return
        const { code, reason } = Failure.from(error)
        if (code === Code.OUT_OF_RANGE) await this.#startOver()
        if (!state.isLost) this.#options.log.warn('the registry is away: aliases stay as they are', { reason })
        state.isLost = true
      }
      await this.#pause(state.pauseMs)
      state.pauseMs = Math.min(MAX_PAUSE_MS, state.pauseMs * 2)
    }
  }

  /** The registry has not come as far as it was followed: it is another one, or was restored from an older copy. */
  async #startOver(): Promise<void> {
    this.#options.log.warn('the registry is another one than before: it is followed from its beginning')
    await this.#options.store.setRegistryRevision(0n)
  }

  /** Follows one stream of changes until it ends, breaks, or is silent for too long. */
  async #watchOnce(state: { pauseMs: number; isLost: boolean }): Promise<void> {
    const afterRevision = await this.#options.store.registryRevision()
    const silence = new AbortController()
    const watchdog = setTimeout(() => silence.abort(), MAX_SILENCE_MS)
    const signal = AbortSignal.any([this.#stopping.signal, silence.signal])
    let isFirst = true
    try {
      for await (const { change, latestRevision } of this.#options.registry.watch({ afterRevision }, { signal })) {
        watchdog.refresh()
        if (isFirst) this.#lookAt(this.#followed())
        if (state.isLost) this.#options.log.info('the registry is back')
        isFirst = false
        state.isLost = false
        state.pauseMs = FIRST_PAUSE_MS
        if (change?.change.case === 'alias') this.#lookAt([change.change.value.name])
        if (change?.revision === latestRevision) await this.#options.store.setRegistryRevision(latestRevision)
      }
    } finally {
      clearTimeout(watchdog)
    }
  }

  async #work(): Promise<void> {
    let pauseMs = FIRST_PAUSE_MS
    while (!this.#stopping.signal.aborted) {
      const due = [...this.#due]
      this.#due.clear()
      for (const alias of due) {
        try {
          await this.#options.deployment.follow(alias)
        } catch (error) {
          this.#options.log.warn('an alias cannot be followed yet', { alias, error })
          this.#due.add(alias)
        }
      }
      if (this.#due.size === 0) {
        pauseMs = FIRST_PAUSE_MS
        await this.#untilWoken()
      } else {
        await this.#pause(pauseMs)
        pauseMs = Math.min(MAX_PAUSE_MS, pauseMs * 2)
      }
    }
  }

  #followed(): string[] {
    return this.#options.table.list().flatMap(aliasesOf)
  }

  #lookAt(aliases: readonly string[]): void {
    for (const alias of aliases) this.#due.add(alias)
    if (aliases.length > 0) this.#wake()
  }

  async #untilWoken(): Promise<void> {
    if (this.#due.size > 0 || this.#stopping.signal.aborted) return
    await new Promise<void>((resolve) => {
      this.#wake = resolve
    })
  }

  async #pause(milliseconds: number): Promise<void> {
    await sleep(milliseconds, undefined, { signal: this.#stopping.signal }).catch(() => undefined)
  }
}

function aliasesOf(endpoint: ServedEndpoint): string[] {
  return endpoint.message.variants.map((variant) => variant.target).filter((target) => target.includes('/aliases/'))
}
