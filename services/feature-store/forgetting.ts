/** Bounds the online store: rows that no read within the remembered time can answer are dropped. */
import { setTimeout as delay } from 'node:timers/promises'
import type { OnlineStore } from './online-store/online-store.ts'
import type { Clock } from './time.ts'
import type { ViewVersion } from './view.ts'

/** What to forget, where and how often. */
export interface ForgettingOptions {
  readonly store: OnlineStore
  readonly views: () => readonly ViewVersion[]
  /** How far behind its newest event a view stays readable. */
  readonly rememberMicros: bigint
  readonly everyMs: number
  readonly clock: Clock
  readonly onError: (error: unknown) => void
}

/** Forgets now and then until the signal. */
export async function keepForgetting(options: ForgettingOptions, signal: AbortSignal): Promise<void> {
  const { everyMs } = options
  while (!signal.aborted) {
    await delay(everyMs, undefined, { signal }).catch(() => undefined)
    if (!signal.aborted) await forgetOnce(options, signal)
  }
}

/** Forgets in all views, once. One event time in the far future does not take the present away. */
export async function forgetOnce(options: Omit<ForgettingOptions, 'everyMs'>, signal: AbortSignal): Promise<void> {
  const { store, views, rememberMicros, clock, onError } = options
  for (const { tableId } of views()) {
    if (signal.aborted) return
    try {
      const newest = await store.newestEvent(tableId)
      if (newest !== undefined) await store.forget(tableId, earlier(newest, clock()) - rememberMicros)
    } catch (error) {
      onError(error)
    }
  }
}

function earlier(a: bigint, b: bigint): bigint {
  if (a < b) return a
  return b
}
