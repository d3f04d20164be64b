/**
 * Keeps one executor of a version alive: starts it, starts it again after it died, gives up when it dies too often.
 * A lane is in one state at a time, and the state owns what it needs.
 */

import type { Batcher, WorkBatch } from './batcher.ts'
import type { Batch, Executor, StartExecutor } from './executors/executor.ts'
import { nextRestart, type RestartPolicy } from './restart-policy.ts'

type State =
  | { readonly kind: 'starting' }
  | { readonly kind: 'running'; readonly executor: Executor }
  | { readonly kind: 'waiting'; readonly timer: NodeJS.Timeout }
  | { readonly kind: 'quarantined' }
  | { readonly kind: 'closed' }

/** What a lane needs from around it. */
export interface LaneOptions {
  readonly start: StartExecutor
  /** The model's verified bytes, or the path of its file; read anew for each start. */
  readonly model: () => Promise<Uint8Array | string>
  readonly intraOpThreads: number
  readonly batcher: Batcher
  readonly policy: RestartPolicy
  readonly onDeath: (reason: string, quarantined: boolean) => void
}

/** See the top of this file. */
export class Lane {
  readonly #options: LaneOptions
  readonly #deathTimesMs: number[] = []
  #state: State = { kind: 'starting' }

  constructor(options: LaneOptions) {
    this.#options = options
  }

  get isQuarantined(): boolean {
    return this.#state.kind === 'quarantined'
  }

  /** Starts the executor for the first time. Rejects with the runtime's text when it refuses the model. */
  async open(): Promise<void> {
    const { start, model, intraOpThreads, batcher } = this.#options
    let executor: Executor | undefined
    let endedEarly: string | undefined
    const running = (): Executor => {
      if (executor === undefined) throw new Error('a batch ended before its executor began')
      return executor
    }
    executor = await start({
      model: await model(),
      intraOpThreads,
      events: {
        // Batches come back as they were given: the batcher's own.
        done: (batch, result) => batcher.done(running(), batch as WorkBatch, result),
        failed: (batch, message) => batcher.failed(running(), batch as WorkBatch, message),
        died: (batches, reason) => {
          if (executor === undefined) endedEarly = reason
          else this.#died(executor, batches, reason)
        },
      },
    })
    if (this.#state.kind === 'closed') return executor.close()
    if (endedEarly !== undefined) throw new Error(endedEarly)
    this.#state = { kind: 'running', executor }
    batcher.attach(executor)
  }

  /** Ends the executor, whatever it does. */
  async close(): Promise<void> {
    const state = this.#state
    this.#state = { kind: 'closed' }
    if (state.kind === 'waiting') clearTimeout(state.timer)
    if (state.kind === 'running') await state.executor.close()
  }

  #died(executor: Executor, batches: readonly Batch[], reason: string): void {
    this.#options.batcher.died(executor, batches as readonly WorkBatch[])
    this.#restart(reason)
  }

  #restart(reason: string): void {
    if (this.#state.kind === 'closed') return
    const nowMs = Date.now()
    this.#deathTimesMs.push(nowMs)
    if (this.#deathTimesMs.length > this.#options.policy.maxDeaths) this.#deathTimesMs.shift()
    const action = nextRestart(this.#deathTimesMs, nowMs, this.#options.policy)
    if (action.kind === 'quarantine') {
      this.#state = { kind: 'quarantined' }
    } else {
      const timer = setTimeout(() => {
        this.#state = { kind: 'starting' }
        this.open().catch((error: unknown) => this.#restart(error instanceof Error ? error.message : String(error)))
      }, action.delayMs)
      this.#state = { kind: 'waiting', timer }
    }
    this.#options.onDeath(reason, action.kind === 'quarantine')
  }
}
