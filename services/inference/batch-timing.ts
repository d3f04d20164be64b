/**
 * When a batch leaves for an executor that is idle. Pure: a table of what was seen to what is done.
 *
 * 1. Without a hold what waits leaves at once; but while a crowd is coming in, each turn of the event loop bringing more of it, the
 *    batch is left open for them, for no longer than the way to an executor and back takes: a server whose event loop is what
 *    limits it sends fewer and larger batches for the same work.
 * 2. With one it leaves when it is large enough, when its oldest request has waited so long, when a deadline in it or
 *    requests of another kind would suffer from waiting, or when the queue is to be emptied; whichever comes first.
 */

/**
 * Why a batch left when it did.
 *
 * - `idle`: an executor was idle, `next`: one fell idle and took what waited; nothing was held back in either case;
 * - `full`: it reached the most rows, or the preferred number of them;
 * - `delay_expired`: its oldest request was held back for as long as it may be;
 * - `deadline`: it was held back until a deadline in it left no more time;
 * - `shape_change`: it was held back until requests came that cannot run with it;
 * - `drain`: it was held back when the version was to end;
 * - `retry`: its requests were in a batch that failed, or was called back.
 */
export type DispatchReason =
  | 'idle'
  | 'next'
  | 'full'
  | 'delay_expired'
  | 'deadline'
  | 'shape_change'
  | 'drain'
  | 'retry'

/** Fewer rows leave at once: there is no crowd to wait for. */
export const GATHER_FROM_ROWS = 4

/** What is known when an executor could take a batch. */
export interface Moment {
  /** Rows that could go. */
  readonly rows: number
  /** Rows at which a batch is large enough. */
  readonly enoughRows: number
  /** Requests came since this was last asked: the event loop brings them turn by turn. */
  readonly isArriving: boolean
  /** How long they may go on to join, where nothing else holds the batch back; 0 for not at all. */
  readonly gatherMs: number
  /** How long the oldest request may be held back; 0 for not at all. */
  readonly holdMs: number
  /** How long the oldest has waited. */
  readonly waitedMs: number
  /** Time until the batch must leave for the earliest deadline in it; Infinity when there is none. */
  readonly slackMs: number
  readonly hasOthers: boolean
  readonly isDraining: boolean
  /** The executor has just answered a batch. */
  readonly isNext: boolean
}

/** The batch leaves, for a reason, or waits: until the next turn of the event loop, or for so long unless something happens. */
export type Timing =
  | { readonly kind: 'leave'; readonly reason: DispatchReason }
  | { readonly kind: 'gather' }
  | { readonly kind: 'hold'; readonly forMs: number }

const leave = (reason: DispatchReason): Timing => ({ kind: 'leave', reason })
const gather: Timing = { kind: 'gather' }
const idle = leave('idle')
const next = leave('next')
const full = leave('full')

/** Decides; see the top of this file. */
export function timeBatch(moment: Moment): Timing {
  const { rows, enoughRows, holdMs, gatherMs, waitedMs, slackMs, hasOthers, isDraining, isArriving, isNext } = moment
  if (rows >= enoughRows) return full
  const mayGather = isArriving && rows >= GATHER_FROM_ROWS && waitedMs < gatherMs && waitedMs < slackMs
  if (holdMs <= 0) return mayGather && !isDraining && !hasOthers ? gather : isNext ? next : idle
  if (isDraining) return leave('drain')
  if (hasOthers) return leave('shape_change')
  if (slackMs <= 0) return leave('deadline')
  const remainingMs = holdMs - waitedMs
  if (remainingMs <= 0) return leave('delay_expired')
  return { kind: 'hold', forMs: Math.min(remainingMs, slackMs) }
}
