/** Tells the watchers of incidents what changed. */
import type { Incident } from '@slipway/proto/slipway/drift/v1/monitor'
import { Code, Failure } from '@slipway/rpc'
import { limits } from './limits.ts'

/** Hands changed incidents to whoever watches. */
export class Watchers {
  readonly #queues = new Set<Queue>()

  /** Passes changes on. */
  publish(incidents: readonly Incident[]): void {
    for (const queue of this.#queues) queue.push(incidents)
  }

  /**
   * Changes from now on; undefined is a sign of life. Ends with the caller's signal; ABORTED when the caller is too slow,
   * UNAVAILABLE when the service stops.
   */
  async *watch(caller: AbortSignal, stopping: AbortSignal): AsyncGenerator<Incident | undefined> {
    const queue = new Queue()
    this.#queues.add(queue)
    try {
      const signal = AbortSignal.any([caller, stopping])
      while (!signal.aborted) {
        const next = queue.take()
        if (next.length === 0) {
          if (!(await queue.wait(signal, limits.watchHeartbeatMs))) yield undefined
          continue
        }
        yield* next
      }
      if (!caller.aborted) throw new Failure(Code.UNAVAILABLE, 'STOPPING', 'the drift monitor stops: watch again')
    } finally {
      this.#queues.delete(queue)
    }
  }
}

class Queue {
  #items: Incident[] = []
  #overflown = false
  #wake: (() => void) | undefined

  push(incidents: readonly Incident[]): void {
    this.#overflown ||= this.#items.length + incidents.length > limits.watchBacklog
    if (!this.#overflown) this.#items.push(...incidents)
    this.#wake?.()
  }

  take(): Incident[] {
    if (this.#overflown) throw new Failure(Code.ABORTED, 'WATCHER_TOO_SLOW', 'too many changes waited: watch again')
    const items = this.#items
    this.#items = []
    return items
  }

  /** Waits for items; false when the time is over. */
  async wait(signal: AbortSignal, timeoutMs: number): Promise<boolean> {
    if (this.#items.length > 0 || signal.aborted) return true
    return await new Promise<boolean>((resolve) => {
      const finish = (woken: boolean) => {
        clearTimeout(timer)
        signal.removeEventListener('abort', onAbort)
        this.#wake = undefined
        resolve(woken)
      }
      const onAbort = () => finish(true)
      const timer = setTimeout(() => finish(false), timeoutMs)
      signal.addEventListener('abort', onAbort, { once: true })
      this.#wake = () => finish(true)
    })
  }
}
