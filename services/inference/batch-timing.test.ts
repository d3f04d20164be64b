import { expect, test } from 'vitest'
import { GATHER_FROM_ROWS, type Moment, timeBatch } from './batch-timing.ts'

const moment: Moment = {
  rows: 3,
  enoughRows: 10,
  holdMs: 5,
  gatherMs: 0,
  isArriving: false,
  waitedMs: 1,
  slackMs: Number.POSITIVE_INFINITY,
  hasOthers: false,
  isDraining: false,
  isNext: false,
}
const crowd: Partial<Moment> = { holdMs: 0, gatherMs: 2, isArriving: true, rows: 8 }
const leaves = (reason: string) => ({ kind: 'leave', reason })

test.each<[string, Partial<Moment>, object]>([
  ['what waits leaves at once when nothing is to be held back', { holdMs: 0 }, leaves('idle')],
  ['or when an executor falls idle', { holdMs: 0, isNext: true }, leaves('next')],
  [
    'while the event loop brings more, turn by turn, they join',
    { holdMs: 0, gatherMs: 2, isArriving: true, rows: GATHER_FROM_ROWS },
    { kind: 'gather' },
  ],
  ['but few requests are no crowd', { holdMs: 0, gatherMs: 2, isArriving: true }, leaves('idle')],
  ['nor is one that ended', { holdMs: 0, gatherMs: 2, rows: 8 }, leaves('idle')],
  ['nor one that has joined for long enough', { ...crowd, waitedMs: 2 }, leaves('idle')],
  ['nor one that a deadline in it has no time for', { ...crowd, waitedMs: 1, slackMs: 1 }, leaves('idle')],
  ['nor one that requests of another kind wait behind', { ...crowd, hasOthers: true, isNext: true }, leaves('next')],
  ['a batch that is large enough leaves', { rows: 10 }, leaves('full')],
  ['a smaller one is held back for the rest of its time', {}, { kind: 'hold', forMs: 4 }],
  ['and leaves when that is over', { waitedMs: 5 }, leaves('delay_expired')],
  ['a deadline cuts it short', { slackMs: 2 }, { kind: 'hold', forMs: 2 }],
  ['and has the batch leave when nothing is left of it', { slackMs: 0 }, leaves('deadline')],
  ['requests of another kind do, too', { hasOthers: true }, leaves('shape_change')],
  ['nothing is held back from an end', { isDraining: true }, leaves('drain')],
])('%s', (_, change, expected) => expect(timeBatch({ ...moment, ...change })).toEqual(expected))
