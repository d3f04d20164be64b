/** Those who wait for versions to be loaded: one outcome for all who wait for the same version, and only so many of them. */
import type { Failure } from '@slipway/rpc'
import { refusal } from './refusals.ts'
import type { Servable } from './servable.ts'

interface Wait {
  readonly sinceMs: number
  readonly outcome: PromiseWithResolvers<Servable>
  count: number
}

/** See the top of this file. */
export class LoadWaiters {
  readonly #maxPerVersion: number
  readonly #waits = new Map<string, Wait>()

  /** A version has at most so many callers that wait for it; those who gave up meanwhile count until it is there. */
  constructor(maxPerVersion: number) {
    this.#maxPerVersion = maxPerVersion
  }

  /** The names of the versions that somebody waits for. */
  get names(): Iterable<string> {
    return this.#waits.keys()
  }

  /** Since when somebody waits for a version, epoch milliseconds; undefined when nobody does. */
  sinceMs(name: string): number | undefined {
    return this.#waits.get(name)?.sinceMs
  }

  /** Resolves when the version answers, rejects with why it cannot be had; RESOURCE_EXHAUSTED when too many wait for it. */
  wait(name: string, nowMs: number): Promise<Servable> {
    let wait = this.#waits.get(name)
    if (wait === undefined) {
      wait = { sinceMs: nowMs, outcome: Promise.withResolvers(), count: 0 }
      // Each who waits hears of a failure from a promise of their own, and there may be none left.
      wait.outcome.promise.catch(() => undefined)
      this.#waits.set(name, wait)
    }
    if (wait.count >= this.#maxPerVersion) return Promise.reject(refusal.tooManyWaiters(name, this.#maxPerVersion))
    wait.count++
    return wait.outcome.promise
  }

  /** The version answers. */
  settle(name: string, served: Servable): void {
    this.#waits.get(name)?.outcome.resolve(served)
    this.#waits.delete(name)
  }

  /** The version cannot be had. */
  fail(name: string, failure: Failure): void {
    this.#waits.get(name)?.outcome.reject(failure)
    this.#waits.delete(name)
  }

  /** No version will be had any more. */
  failAll(failure: Failure): void {
    for (const name of [...this.#waits.keys()]) this.fail(name, failure)
  }
}
