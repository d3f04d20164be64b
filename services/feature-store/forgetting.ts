/** Bounds the online store: rows that no read within the remembered time can answer are dropped. */
import { setTimeout as delay } from 'node:timers/promises'
import type { OnlineStore } from './online-store/online-store.ts'
import type { ViewVersion } from './view.ts'

/** What to forget, where and how often. */
export interface ForgettingOptions {
  readonly store: OnlineStore
  readonly views: () => readonly ViewVersion[]
  /** How far behind its newest event a view stays readable. */
  readonly rememberMicros: bigint
  readonly everyMs: number
  readonly onError: (error: unknown) => void
}

/** Forgets now and then until the signal. */
export async function keepForgetting(options: ForgettingOptions, signal: AbortSignal): Promise<void> {
  const { store, views, rememberMicros, everyMs, onError } = options
  while (!signal.aborted) {
    await delay(everyMs, undefined, { signal }).catch(() => undefined)
    for (const { tableId } of signal.aborted ? [] : views()) {
      try {
        const newest = await store.newestEvent(tableId)
        if (newest !== undefined) await store.forget(tableId, newest - rememberMicros)
      } catch (error) {
        onError(error)
      }
    }
  }
}
