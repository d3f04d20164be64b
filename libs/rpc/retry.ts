import type { CallScope } from './call-scope.ts'
import { countRetry } from './call-telemetry.ts'
import { Code } from './code.ts'
import type { Failure } from './failure.ts'

/** When a unary call that failed is sent again. */
export interface RetryPolicy {
  /** Attempts in all; 1 is no retry. */
  readonly maxAttempts: number
  /** Upper bound of the delay before the second attempt; it doubles for each further one. */
  readonly initialBackoffMs: number
  /** Upper bound of every delay. */
  readonly maxBackoffMs: number
  /** Retries at a time, in percent of the calls at a time: retries cannot multiply the load on a server that is down. */
  readonly budgetPercent: number
  /** Retries at a time that are always allowed. */
  readonly minConcurrentRetries: number
  /**
   * What is sent again when the connection broke and nobody knows how far the call came: only methods that their proto
   * calls idempotent, or all. A call that surely had no effect is sent again in any case.
   */
  readonly resend: 'idempotent' | 'always'
}

/** The policy of a client that names none. */
export const defaultRetryPolicy: RetryPolicy = {
  maxAttempts: 4,
  initialBackoffMs: 50,
  maxBackoffMs: 2000,
  budgetPercent: 20,
  minConcurrentRetries: 3,
  resend: 'idempotent',
}

/** How an attempt failed. */
export interface AttemptFailure {
  readonly failure: Failure
  /** The server's `grpc-retry-pushback-ms`; `never` when it asks not to be tried again. */
  readonly pushback: number | 'never' | undefined
  /** `none`: it never left or was refused unseen. `perhaps`: nobody knows. */
  readonly effect: 'none' | 'perhaps'
}

/** What is known when the next attempt is decided on. */
export interface FailedAttempt extends AttemptFailure {
  /** Which attempt it was, from 1. */
  readonly attempt: number
  /** Whether doing it twice is as good as once. */
  readonly idempotent: boolean
}

/**
 * How long to wait before the next attempt; undefined when there is to be none. Only UNAVAILABLE is retried. The server's
 * word (pushback, then RetryInfo) goes before the backoff, which is drawn between zero and its bound (full jitter).
 */
export function retryDelayMs(failed: FailedAttempt, policy: RetryPolicy, random: () => number): number | undefined {
  const { failure, attempt, pushback, effect, idempotent } = failed
  if (failure.code !== Code.UNAVAILABLE || attempt >= policy.maxAttempts || pushback === 'never') return undefined
  if (effect === 'perhaps' && !idempotent && policy.resend === 'idempotent') return undefined
  if (pushback !== undefined) return pushback
  if (failure.retryAfterMs !== undefined) return failure.retryAfterMs
  return random() * Math.min(policy.maxBackoffMs, policy.initialBackoffMs * 2 ** (attempt - 1))
}

/** Reads `grpc-retry-pushback-ms`: what is no number, or below zero, asks not to be tried again. */
export function parsePushback(text: string | undefined): number | 'never' | undefined {
  if (text === undefined) return undefined
  return /^\d{1,9}$/.test(text) ? Number(text) : 'never'
}

/**
 * Bounds the retries at a time: at most `budgetPercent` of the calls at a time, and `minConcurrentRetries` always.
 */
export class RetryBudget {
  readonly #policy: RetryPolicy
  #calls = 0
  #retries = 0

  constructor(policy: RetryPolicy) {
    this.#policy = policy
  }

  /** Counts a call while it runs. */
  enter(): void {
    this.#calls++
  }

  /** The call is over. */
  leave(): void {
    this.#calls--
  }

  /** Takes a place for a retry; false when there is none. */
  take(): boolean {
    const { budgetPercent, minConcurrentRetries } = this.#policy
    const allowed = Math.max(minConcurrentRetries, Math.floor((this.#calls * budgetPercent) / 100))
    if (this.#retries >= allowed) return false
    this.#retries++
    return true
  }

  /** Gives the place back. */
  giveBack(): void {
    this.#retries--
  }
}

/** A unary call that may be attempted several times. */
export interface RetriedCall {
  readonly method: string
  readonly idempotent: boolean
  readonly policy: RetryPolicy
  readonly budget: RetryBudget
  readonly scope: CallScope
  /** Makes an attempt; `previous` is the number of those before it. */
  attempt(previous: number): Promise<Uint8Array | AttemptFailure>
}

/** Makes a call until it succeeds or may not be tried again; fails with the last attempt's failure. */
export async function callWithRetries(call: RetriedCall): Promise<Uint8Array> {
  const { budget } = call
  budget.enter()
  let retrying = false
  try {
    for (let attempt = 1; ; attempt++) {
      const result = await call.attempt(attempt - 1)
      if (result instanceof Uint8Array) return result
      if (retrying) budget.giveBack()
      retrying = false
      const delayMs = retryDelayMs({ ...result, attempt, idempotent: call.idempotent }, call.policy, Math.random)
      const inTime = delayMs !== undefined && Date.now() + delayMs < call.scope.deadlineMs
      if (!inTime || !budget.take()) throw result.failure
      retrying = true
      countRetry(call.method)
      const ended = await pause(delayMs, call.scope)
      if (ended !== undefined) throw ended
    }
  } finally {
    if (retrying) budget.giveBack()
    budget.leave()
  }
}

/** Waits; answers at once and why when the call ends in the meantime. */
function pause(delayMs: number, scope: CallScope): Promise<Failure | undefined> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      unlink()
      resolve(undefined)
    }, delayMs)
    const unlink = scope.onEnd((failure) => {
      clearTimeout(timer)
      resolve(failure)
    })
  })
}
