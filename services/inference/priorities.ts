import type { RunCost } from './latency-model.ts'

/**
 * Which request goes first. A request has a level, 1 the most urgent; the longer it waits the more urgent it counts: one
 * level for each `ageingMs`. Since all age alike, the order of two requests never changes, and a request's place is known when it
 * arrives. Pure.
 */

/** The level of requests that name none. */
export const DEFAULT_LEVEL = 4

/** The least urgent level. */
export const MAX_LEVEL = 9

/** Waiting so long makes a request count as one level more urgent. */
export const DEFAULT_AGEING_MS = 1000

/** Of the rows that run while more urgent requests wait, the share that may go to those that are only older. */
export const AGED_SHARE = 0.1

/** So much longer may a batch take because less urgent requests fill it up. */
const FILL_SHARE = 0.1

/** After a request of a level came, less urgent ones leave room for another one for so long. */
export const POLITE_MS = 1000

/** Rows that less urgent requests may add to a batch. */
export function lessUrgentRows({ fixedMs, perRowMs }: RunCost, rows: number): number {
  if (perRowMs <= 0) return Number.POSITIVE_INFINITY
  return Math.floor((FILL_SHARE * (fixedMs + perRowMs * rows)) / perRowMs)
}

/**
 * Rows of a batch behind which a more urgent request may have to wait: as many as take twice as long as one row, so that at
 * least half of what a run costs however large it is comes to good.
 */
export function politeRows({ fixedMs, perRowMs }: RunCost): number {
  if (perRowMs <= 0) return Number.POSITIVE_INFINITY
  return Math.max(1, Math.floor((fixedMs + 2 * perRowMs) / perRowMs))
}

/** The level of a request's `priority`: 0 is the default one, more than the last one is the last. */
export function levelOf(priority: number): number {
  return priority === 0 ? DEFAULT_LEVEL : Math.min(Math.max(priority, 1), MAX_LEVEL)
}

/** A request's place in the order: the smaller goes first. */
export function rankOf(level: number, arrivedMs: number, ageingMs: number): number {
  return arrivedMs + level * ageingMs
}

/**
 * Keeps a flood of old unimportant requests from holding up important ones, and these from holding up the others for
 * ever: while both wait, those that go first only because of their age get AGED_SHARE of the rows.
 */
export class AgedShare {
  #credit = 0

  /** Whether a request may go before more urgent ones because it is older. */
  get isOpen(): boolean {
    return this.#credit > -1e-6
  }

  /** So many rows ran while both kinds waited. */
  took(rows: number, wasAged: boolean): void {
    if (wasAged) this.#credit -= rows * (1 - AGED_SHARE)
    else this.#credit = Math.min(0, this.#credit + rows * AGED_SHARE)
  }
}
