/**
 * Carries out what follows from the log of jobs, once for all replicas: they share one consumer group, so one of them reads,
 * and another takes over when it is gone. All that it does may be done again.
 *
 * The parts of a job go in lanes, `PARTS_AHEAD` of them: part 0, 64, 128 and so on are one, 1, 65, 129 another. Of each lane one part is due
 * at a time, and the next one when it is written; so a job that comes later does not wait for the end of those before it.
 */
import { consume, type EventBus, publishTo, type Subscription, topics } from '@slipway/events'
import { type BatchJobChanged, BatchJobVerb } from '@slipway/proto/slipway/events/v1/batch_job'
import { BatchJobState } from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import type { Logger } from '@slipway/telemetry'
import type { JobLog } from './job-log.ts'
import { isComplete, type JobRecord } from './job-state.ts'
import type { JobStore } from './job-store.ts'
import { OutputFolder } from './output-folder.ts'
import { CUT_PART } from './part-runner.ts'
import { partFile } from './recipe.ts'
import { subscribed } from './subscribed.ts'

const GROUP = 'slipway-batch-dispatch'
/** Parts of a job that are due at a time. */
const PARTS_AHEAD = 64

/** What follows from an event. */
export type Duty = 'cut' | 'parts' | 'next' | 'finish' | 'sweep' | undefined

/** What follows from an event about a job that stands so now. Pure. */
export function dutyOf(record: JobRecord, { change }: BatchJobChanged): Duty {
  const { state } = record.job
  const begins = change.case === 'created' || change.case === 'planned'
  const resumes = change.case === 'command' && change.value.verb === BatchJobVerb.RESUME
  switch (state) {
    case BatchJobState.PREPARING:
      return begins || resumes ? 'cut' : undefined
    case BatchJobState.RUNNING:
      if (isComplete(record)) return 'finish'
      if (change.case === 'partWritten') return 'next'
      return begins || resumes ? 'parts' : undefined
    case BatchJobState.FAILED:
    case BatchJobState.CANCELLED:
      return change.case === 'failed' || change.case === 'command' ? 'sweep' : undefined
    default:
      return undefined
  }
}

/** A dispatcher that runs. */
export interface Dispatcher {
  /** Ends after the event on its way. */
  stop(): Promise<void>
}

/** What a dispatcher needs. */
export interface DispatcherOptions {
  readonly bus: EventBus
  readonly store: JobStore
  readonly jobs: JobLog
  readonly log: Logger
}

/** Starts it. */
export function startDispatcher(options: DispatcherOptions): Dispatcher {
  const { bus, store, jobs, log } = options
  const stopping = new AbortController()
  const subscription: Promise<Subscription | undefined> = subscribed(stopping.signal, log, () =>
    consume(bus, topics.batchJobs, {
      group: GROUP,
      handle: async (events, { signal }) => {
        if ((events.at(-1)?.record.offset ?? -1n) > store.lastOffset) await jobs.caughtUp()
        const last = new Map(events.map(({ message }) => [message.eventId, message]))
        for (const message of last.values()) {
          const record = await store.get(message.job)
          const duty = record === undefined ? undefined : dutyOf(record, message)
          if (record !== undefined && duty !== undefined) await fulfil(options, record, duty, message, signal)
        }
      },
    }),
  )
  return {
    stop: async () => {
      stopping.abort()
      await (await subscription)?.stop()
    },
  }
}

async function fulfil(
  { bus, store, jobs }: DispatcherOptions,
  record: JobRecord,
  duty: Duty,
  { change }: BatchJobChanged,
  signal: AbortSignal,
): Promise<void> {
  const { job, epoch } = record
  const { name } = job
  if (duty === 'cut') await publishTo(bus, topics.batchParts, [{ job: name, part: CUT_PART, epoch }])
  else if (duty === 'parts') await publishFirst(bus, store, record)
  else if (duty === 'next') {
    if (change.case === 'partWritten') await publishNext(bus, store, record, change.value.part)
  } else if (duty === 'sweep') await new OutputFolder(job.outputDirectory).sweep()
  else {
    await new OutputFolder(job.outputDirectory).succeed(await manifestOf(store, record))
    await jobs.publish(name, { case: 'finished', value: {} }, signal)
  }
}

/** The first part of each lane that is not written. */
async function publishFirst(bus: EventBus, store: JobStore, { job, epoch }: JobRecord): Promise<void> {
  const written = new Set((await store.parts(job.name)).map(({ part }) => part))
  const total = job.progress?.partsTotal ?? 0
  const due: { readonly job: string; readonly part: number; readonly epoch: number }[] = []
  for (let lane = 0; lane < Math.min(PARTS_AHEAD, total); lane++) {
    let part = lane
    while (written.has(part)) part += PARTS_AHEAD
    if (part < total) due.push({ job: job.name, part, epoch })
  }
  if (due.length > 0) await publishTo(bus, topics.batchParts, due)
}

/** The part of a lane that follows one that was written. */
async function publishNext(bus: EventBus, store: JobStore, { job, epoch }: JobRecord, written: number): Promise<void> {
  let part = written + PARTS_AHEAD
  while (await store.hasPart(job.name, part)) part += PARTS_AHEAD
  if (part < (job.progress?.partsTotal ?? 0)) await publishTo(bus, topics.batchParts, [{ job: job.name, part, epoch }])
}

/** What `_SUCCESS` says. */
async function manifestOf(store: JobStore, { job }: JobRecord) {
  const parts = (await store.parts(job.name)).map(({ part, ...rest }) => ({ file: partFile(part), ...rest }))
  return {
    job: job.name,
    modelVersion: job.modelVersion,
    digest: job.digest,
    rows: parts.reduce((sum, { rows }) => sum + rows, 0),
    rowsFailed: parts.reduce((sum, { rowsFailed }) => sum + rowsFailed, 0),
    parts,
  }
}
