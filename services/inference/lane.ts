/**
 * Keeps one executor of a version alive: starts it, starts it again after it died, gives up when it dies too often, and replaces one
 * that holds too much memory by another that is ready. A lane is in one state at a time, and the state owns what it needs.
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
  /** The model's name. */
  readonly name: string
  readonly start: StartExecutor
  /** The model's verified bytes, or the path of its file; read anew for each start. */
  readonly model: () => Promise<Uint8Array | string>
  readonly intraOpThreads: number
  readonly batcher: Pick<Batcher, 'attach' | 'detach' | 'done' | 'failed' | 'skipped' | 'died'>
  readonly policy: RestartPolicy
  readonly onDeath: (reason: string, quarantined: boolean) => void
  /** Hears when an executor was replaced because of the memory that it held. */
  readonly onReplaced?: (reason: string) => void
}

/** See the top of this file. */
export class Lane {
  readonly #options: LaneOptions
  readonly #deathTimesMs: number[] = []
  readonly #starts = new AbortController()
  readonly #closing = new Promise<void>((resolve) => {
    this.#starts.signal.addEventListener('abort', () => resolve())
  })
  /** Starts and ends that are under way, so that closing can wait for them. */
  readonly #underWay = new Set<Promise<unknown>>()
  #state: State = { kind: 'starting' }
  /** A replacement is not tried before this. */
  #replaceFromMs = 0
  #isReplacing = false

  constructor(options: LaneOptions) {
    this.#options = options
  }

  get isQuarantined(): boolean {
    return this.#state.kind === 'quarantined'
  }

  /** Bytes of memory that its executor holds. */
  get memoryBytes(): number {
    return this.#state.kind === 'running' ? this.#state.executor.memoryBytes : 0
  }

  /** Starts the executor for the first time. Rejects with the runtime's text when it refuses the model. */
  async open(): Promise<void> {
    const executor = await this.#start()
    if (this.#state.kind === 'closed') return await executor.close()
    this.#state = { kind: 'running', executor }
    this.#options.batcher.attach(executor)
  }

  /** Ends the executor, whatever it does. */
  async close(): Promise<void> {
    const state = this.#state
    this.#state = { kind: 'closed' }
    this.#starts.abort()
    if (state.kind === 'waiting') clearTimeout(state.timer)
    if (state.kind === 'running') await state.executor.close()
    await Promise.allSettled([...this.#underWay])
  }

  #start(): Promise<Executor> {
    return this.#whileUnderWay(async () => {
      const { start, name, model, intraOpThreads, batcher } = this.#options
      let executor: Executor | undefined
      let endedEarly: string | undefined
      const running = (): Executor => {
        if (executor === undefined) throw new Error('a batch ended before its executor began')
        return executor
      }
      executor = await start({
        name,
        model: await model(),
        intraOpThreads,
        signal: this.#starts.signal,
        events: {
          // Batches come back as they were given: the batcher's own.
          done: (batch, result) => batcher.done(running(), batch as WorkBatch, result),
          failed: (batch, message) => batcher.failed(running(), batch as WorkBatch, message),
          skipped: (batch) => batcher.skipped(running(), batch as WorkBatch),
          died: (batches, reason) => {
            if (executor === undefined) endedEarly = reason
            else this.#died(executor, batches, reason)
          },
          worn: (reason) => {
            if (executor !== undefined) this.#replace(executor, reason)
          },
        },
      })
      if (endedEarly !== undefined) throw new Error(endedEarly)
      return executor
    })
  }

  async #whileUnderWay<T>(work: () => Promise<T>): Promise<T> {
    const promise = work()
    this.#underWay.add(promise)
    try {
      return await promise
    } finally {
      this.#underWay.delete(promise)
    }
  }

  #died(executor: Executor, batches: readonly Batch[], reason: string): void {
    this.#options.batcher.died(executor, batches as readonly WorkBatch[])
    // One that has been replaced is not started again.
    if (this.#state.kind === 'running' && this.#state.executor === executor) this.#restart(reason)
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
        this.open().catch((error: unknown) => this.#restart(textOf(error)))
      }, action.delayMs)
      this.#state = { kind: 'waiting', timer }
    }
    this.#options.onDeath(reason, action.kind === 'quarantine')
  }

  /** Starts another one, and lets the worn one go when that is ready; the worn one answers meanwhile. */
  #replace(worn: Executor, reason: string): void {
    const isCurrent = () => this.#state.kind === 'running' && this.#state.executor === worn
    if (this.#isReplacing || !isCurrent() || Date.now() < this.#replaceFromMs) return
    this.#isReplacing = true
    const { batcher, policy, onReplaced } = this.#options
    void this.#whileUnderWay(async () => {
      try {
        const next = await this.#start()
        if (!isCurrent()) return await next.close()
        this.#state = { kind: 'running', executor: next }
        batcher.attach(next)
        await Promise.race([batcher.detach(worn), this.#closing])
        await worn.close()
        onReplaced?.(reason)
      } catch {
        // The worn one goes on; it will say again that it is worn.
        this.#replaceFromMs = Date.now() + policy.maxDelayMs
      } finally {
        this.#isReplacing = false
      }
    })
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
