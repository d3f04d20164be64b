import { expect, test } from 'vitest'
import { type Moment, timeBatch } from './batch-timing.ts'

const moment: Moment = {
  rows: 3,
  enoughRows: 10,
  holdMs: 5,
  waitedMs: 1,
  slackMs: Number.POSITIVE_INFINITY,
  hasOthers: false,
  isDraining: false,
  isNext: false,
}
const leaves = (reason: string) => ({ kind: 'leave', reason })

test.each<[string, Partial<Moment>, object]>([
  ['what waits leaves at once when nothing is to be held back', { holdMs: 0 }, leaves('idle')],
  ['or when an executor falls idle', { holdMs: 0, isNext: true }, leaves('next')],
  ['a batch that is large enough leaves', { rows: 10 }, leaves('full')],
  ['a smaller one is held back for the rest of its time', {}, { kind: 'hold', forMs: 4 }],
  ['and leaves when that is over', { waitedMs: 5 }, leaves('delay_expired')],
  ['a deadline cuts it short', { slackMs: 2 }, { kind: 'hold', forMs: 2 }],
  ['and has the batch leave when nothing is left of it', { slackMs: 0 }, leaves('deadline')],
  ['requests of another kind do, too', { hasOthers: true }, leaves('shape_change')],
  ['nothing is held back from an end', { isDraining: true }, leaves('drain')],
])('%s', (_, change, expected) => expect(timeBatch({ ...moment, ...change })).toEqual(expected))
