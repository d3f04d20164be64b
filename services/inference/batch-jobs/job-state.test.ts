import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { BatchJobChangedSchema, BatchJobVerb } from '@slipway/proto/slipway/events/v1/batch_job'
import { BatchJobState } from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { dutyOf } from './dispatcher.ts'
import { applyEvent, hasEnded, isComplete, type JobRecord } from './job-state.ts'

type Change = NonNullable<MessageInitShape<typeof BatchJobChangedSchema>['change']>

const created: Change = { case: 'created', value: { batchJob: { name: 'batchJobs/j' }, requestDigest: 'd' } }
const planned: Change = { case: 'planned', value: { parts: 2, rows: 20n } }
const wrote = (part: number): Change => ({ case: 'partWritten', value: { part, rows: 10n, rowsFailed: 1n } })
const failed: Change = { case: 'failed', value: { message: 'why' } }
const finished: Change = { case: 'finished', value: {} }
const order = (verb: BatchJobVerb): Change => ({ case: 'command', value: { verb } })
const [pause, resume, cancel] = [BatchJobVerb.PAUSE, BatchJobVerb.RESUME, BatchJobVerb.CANCEL].map(order) as [
  Change,
  Change,
  Change,
]

/** What a log of changes makes of a job; a second passes between two of them. */
function replay(changes: readonly Change[]) {
  const parts = new Set<number>()
  const states: BatchJobState[] = []
  const refusals: string[] = []
  let record: JobRecord | undefined
  for (const [index, change] of changes.entries()) {
    const event = create(BatchJobChangedSchema, { job: 'batchJobs/j', change })
    const part = event.change.case === 'partWritten' ? event.change.value.part : undefined
    const isNewPart = part !== undefined && !parts.has(part)
    const place = { timeMicros: BigInt(index) * 1_000_000n, offset: BigInt(index), isNewPart }
    const outcome = applyEvent(record, event, place)
    if (outcome.record !== undefined && part !== undefined) parts.add(part)
    if (outcome.refusal !== undefined) refusals.push(outcome.refusal.reason)
    record = outcome.record ?? record
    if (record !== undefined) states.push(record.job.state)
  }
  return { record, states, refusals }
}

const { PREPARING, RUNNING, PAUSED, SUCCEEDED, FAILED, CANCELLED } = BatchJobState

test.each<[string, Change[], BatchJobState, string[]]>([
  ['a job begins with cutting its input', [created], PREPARING, []],
  ['then its parts are worked on', [created, planned], RUNNING, []],
  ['it succeeds when its manifest is written', [created, planned, wrote(0), wrote(1), finished], SUCCEEDED, []],
  ['it does not succeed while a part is missing', [created, planned, wrote(0), finished], RUNNING, []],
  ['a part counts once', [created, planned, wrote(0), wrote(0), finished], RUNNING, []],
  ['a job that is paused while it is cut waits with its parts', [created, pause, planned], PAUSED, []],
  ['it goes on with its parts', [created, pause, planned, resume], RUNNING, []],
  ['a job that is paused before it is cut is cut', [created, pause, resume], PREPARING, []],
  [
    'a part that was under way still counts',
    [created, planned, wrote(0), pause, wrote(1), resume, finished],
    SUCCEEDED,
    [],
  ],
  ['pausing twice is pausing', [created, pause, pause], PAUSED, []],
  ['a job ends once', [created, failed, cancel], FAILED, ['BATCH_JOB_ENDED']],
  ['cancelling twice is cancelling', [created, cancel, cancel, failed, wrote(0)], CANCELLED, []],
  ['what has ended cannot be resumed', [created, cancel, resume], CANCELLED, ['BATCH_JOB_ENDED']],
  ['what is unknown cannot be paused', [pause, created], PREPARING, ['UNKNOWN_BATCH_JOB']],
])('%s', (_, changes, state, refusals) => {
  const replayed = replay(changes)
  expect(replayed.record?.job.state).toBe(state)
  expect(replayed.refusals).toEqual(refusals)
})

test('the time in which a job is paused does not count for its rate', () => {
  const { record } = replay([created, planned, pause, resume, wrote(0), wrote(1)])
  // It ran one second before the pause and two after it.
  expect(record?.job.progress).toMatchObject({ rowsDone: 20n, rowsFailed: 2n, rowsPerSecond: 20 / 3 })
})

test('whatever happens, a job never leaves its last state, and never counts more parts than it has', () => {
  const changes = [created, planned, wrote(0), wrote(1), failed, finished, pause, resume, cancel]
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...changes), { maxLength: 30 }), (log) => {
      const { states, record } = replay(log)
      const end = states.findIndex(hasEnded)
      if (end >= 0) expect(new Set(states.slice(end)).size).toBe(1)
      expect(record?.job.progress?.partsDone ?? 0).toBeLessThanOrEqual(2)
      if (record?.job.state === SUCCEEDED) expect(isComplete(record)).toBe(true)
    }),
  )
})

test.each<[string, Change[], string | undefined]>([
  ['a new job is cut', [created], 'cut'],
  ['its parts are handed out when they are known', [created, planned], 'parts'],
  ['a part that is written is followed by the next of its lane', [created, planned, wrote(0)], 'next'],
  ['but not while the job is paused', [created, planned, pause, wrote(0)], undefined],
  ['the last part finishes it', [created, planned, wrote(0), wrote(1)], 'finish'],
  ['a resumed job hands out its parts again', [created, planned, pause, resume], 'parts'],
  ['or is cut again', [created, pause, resume], 'cut'],
  ['or finishes', [created, planned, wrote(0), pause, wrote(1), resume], 'finish'],
  ['a paused job has no duties', [created, planned, pause], undefined],
  ['what a cancelled job left half done is taken away', [created, planned, cancel], 'sweep'],
])('%s', (_, changes, duty) => {
  const { record } = replay(changes)
  const last = create(BatchJobChangedSchema, { job: 'batchJobs/j', change: changes.at(-1) as Change })
  expect(record === undefined ? 'unknown' : dutyOf(record, last)).toBe(duty)
})
