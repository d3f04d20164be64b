/**
 * What events make of a job. Pure: every replica applies the same events in the same order, and so comes to the same.
 *
 * 1. A job ends once: what comes afterwards changes nothing.
 * 2. A part counts once, however often it is said to be written.
 * 3. Every resumption begins a new epoch: parts that were due before are void.
 */
import { clone, create } from '@bufbuild/protobuf'
import { type BatchJobChanged, type BatchJobCreated, BatchJobVerb } from '@slipway/proto/slipway/events/v1/batch_job'
import {
  type BatchJob,
  BatchJobSchema,
  BatchJobState,
  BatchProgressSchema,
} from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import { timestampFromMicros } from '@slipway/resources'
import { Code, Failure } from '@slipway/rpc'

/** A job and what only its replicas need to know of it. */
export interface JobRecord {
  readonly job: BatchJob
  /** SHA-256 of what the caller asked for. */
  readonly requestDigest: string
  /** Whether its parts are known. */
  readonly isPlanned: boolean
  /** How often it was resumed. */
  readonly epoch: number
  /** Since when its parts have been worked on; undefined while they are not. */
  readonly runningSinceMicros: bigint | undefined
  /** How long they were worked on before. */
  readonly ranMicros: bigint
}

/** Where an event stands in the log. */
export interface EventPlace {
  readonly timeMicros: bigint
  /** Its offset: what changes a job's state becomes its etag. */
  readonly offset: bigint
  /** Whether the part that it speaks of was not known to be written. */
  readonly isNewPart: boolean
}

/** What an event came to: the record as it is now, unless nothing changed, or why it was refused. */
export interface Outcome {
  readonly record?: JobRecord
  readonly refusal?: Failure
}

const ended: ReadonlySet<BatchJobState> = new Set([
  BatchJobState.SUCCEEDED,
  BatchJobState.FAILED,
  BatchJobState.CANCELLED,
])

const stateNames: Readonly<Record<BatchJobState, string>> = {
  [BatchJobState.UNSPECIFIED]: 'unknown',
  [BatchJobState.PREPARING]: 'preparing',
  [BatchJobState.RUNNING]: 'running',
  [BatchJobState.PAUSED]: 'paused',
  [BatchJobState.SUCCEEDED]: 'succeeded',
  [BatchJobState.FAILED]: 'failed',
  [BatchJobState.CANCELLED]: 'cancelled',
}

/** Whether a state is the last one. */
export function hasEnded(state: BatchJobState): boolean {
  return ended.has(state)
}

/** Applies an event; `record` is undefined when there is no such job. */
export function applyEvent(record: JobRecord | undefined, event: BatchJobChanged, place: EventPlace): Outcome {
  const { change } = event
  if (change.case === 'created') return created(record, change.value, event.job, place)
  if (record === undefined) return { refusal: unknownJob(event.job) }
  if (change.case === 'command') return command(record, change.value.verb, change.value.etag, place)
  const { state } = record.job
  if (hasEnded(state)) return {}
  switch (change.case) {
    case 'planned': {
      if (record.isPlanned) return {}
      const planned = moved({ ...record, isPlanned: true }, place, ({ progress }) => {
        if (progress === undefined) return
        progress.partsTotal = change.value.parts
        progress.rowsTotal = change.value.rows
      })
      return { record: state === BatchJobState.PREPARING ? into(planned, BatchJobState.RUNNING, place) : planned }
    }
    case 'partWritten': {
      if (!place.isNewPart) return {}
      const { rows, rowsFailed, sizeBytes } = change.value
      const counted = moved(record, place, ({ progress }) => {
        if (progress === undefined) return
        progress.partsDone += 1
        progress.rowsDone += rows
        progress.rowsFailed += rowsFailed
        progress.bytesWritten += sizeBytes
      })
      return { record: withRate(counted, place) }
    }
    case 'failed': {
      const { message } = change.value
      const told = moved(record, place, (job) => {
        job.message = message
      })
      return { record: into(told, BatchJobState.FAILED, place) }
    }
    case 'finished':
      return isComplete(record) ? { record: into(record, BatchJobState.SUCCEEDED, place) } : {}
    case undefined:
      return {}
  }
}

/** Whether all parts of a job are written. */
export function isComplete({ isPlanned, job: { progress } }: JobRecord): boolean {
  return isPlanned && progress !== undefined && progress.partsDone === progress.partsTotal
}

/** NOT_FOUND. */
export function unknownJob(name: string): Failure {
  return new Failure(Code.NOT_FOUND, 'UNKNOWN_BATCH_JOB', `there is no batch job ${name}`)
}

/** ALREADY_EXISTS: another job has the name. */
export function otherJob(name: string): Failure {
  return new Failure(Code.ALREADY_EXISTS, 'BATCH_JOB_EXISTS', `${name} is another job already`)
}

function created(known: JobRecord | undefined, value: BatchJobCreated, name: string, place: EventPlace): Outcome {
  if (known !== undefined) return known.requestDigest === value.requestDigest ? {} : { refusal: otherJob(name) }
  const time = timestampFromMicros(place.timeMicros)
  const job = clone(BatchJobSchema, value.batchJob ?? create(BatchJobSchema))
  job.name = name
  job.progress = create(BatchProgressSchema)
  job.createTime = time
  const { requestDigest } = value
  const record = { job, requestDigest, isPlanned: false, epoch: 0, runningSinceMicros: undefined, ranMicros: 0n }
  return { record: into(record, BatchJobState.PREPARING, place) }
}

function command(record: JobRecord, verb: BatchJobVerb, etag: string, place: EventPlace): Outcome {
  const { state, name } = record.job
  if (etag !== '' && etag !== record.job.etag) {
    return { refusal: new Failure(Code.ABORTED, 'STALE_ETAG', `${name} has changed since`) }
  }
  const target = verb === BatchJobVerb.PAUSE ? BatchJobState.PAUSED : BatchJobState.CANCELLED
  if (verb !== BatchJobVerb.RESUME && state === target) return {}
  if (hasEnded(state)) {
    const message = `${name} has ended: it is ${stateNames[state]}`
    return { refusal: new Failure(Code.FAILED_PRECONDITION, 'BATCH_JOB_ENDED', message) }
  }
  if (verb !== BatchJobVerb.RESUME) return { record: into(record, target, place) }
  if (state !== BatchJobState.PAUSED) return {}
  const next = record.isPlanned ? BatchJobState.RUNNING : BatchJobState.PREPARING
  return { record: into({ ...record, epoch: record.epoch + 1 }, next, place) }
}

/** The record in another state; the time in which it ran counts up to now. */
function into(record: JobRecord, state: BatchJobState, place: EventPlace): JobRecord {
  const { timeMicros, offset } = place
  const entered = moved(record, place, (job) => {
    job.state = state
    job.etag = String(offset)
    if (hasEnded(state)) job.endTime = timestampFromMicros(timeMicros)
  })
  const ranMicros = ranUntil(record, timeMicros)
  return { ...entered, ranMicros, runningSinceMicros: state === BatchJobState.RUNNING ? timeMicros : undefined }
}

function ranUntil({ ranMicros, runningSinceMicros }: JobRecord, nowMicros: bigint): bigint {
  return runningSinceMicros === undefined ? ranMicros : ranMicros + (nowMicros - runningSinceMicros)
}

function withRate(record: JobRecord, place: EventPlace): JobRecord {
  const seconds = Number(ranUntil(record, place.timeMicros)) / 1e6
  return moved(record, place, ({ progress }) => {
    if (progress !== undefined && seconds > 0) progress.rowsPerSecond = Number(progress.rowsDone) / seconds
  })
}

function moved(record: JobRecord, { timeMicros }: EventPlace, change: (job: BatchJob) => void): JobRecord {
  const job = clone(BatchJobSchema, record.job)
  job.updateTime = timestampFromMicros(timeMicros)
  change(job)
  return { ...record, job }
}
