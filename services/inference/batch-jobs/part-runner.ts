/**
 * Works on parts that the bus hands to this replica: cuts inputs and writes results.
 *
 * 1. A part is taken off the bus only when its file has its name and the log says so, or when it is void: a replica that is
 *    killed before leaves it to another, which finds the file or writes it anew.
 * 2. A part whose job is paused, cancelled or failed is given up within one call of the model.
 * 3. What is wrong with the input fails the job; anything else is tried again, `MAX_TRIES` times in this process.
 */
import { rm } from 'node:fs/promises'
import { consume, type EventBus, Poison, type Subscription, topics } from '@slipway/events'
import type { BatchPartDue } from '@slipway/proto/slipway/events/v1/batch_job'
import { type BatchJob, BatchJobState } from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import type { Logger } from '@slipway/telemetry'
import { type Acquire, answerCall } from './call-answers.ts'
import { InputError } from './input-error.ts'
import type { JobLog } from './job-log.ts'
import type { JobStore } from './job-store.ts'
import { OutputFolder } from './output-folder.ts'
import { observePart, observeRows, type PartOutcome } from './part-metrics.ts'
import type { CutJob } from './prepare.ts'
import type { Reader } from './reader.ts'
import type { WrittenPart } from './reader-protocol.ts'
import type { Recipe } from './recipe.ts'
import { subscribed } from './subscribed.ts'

/** The number of the part that stands for cutting the input. */
export const CUT_PART = -1

const GROUP = 'slipway-batch-parts'
const MAX_TRIES = 5
const MAX_KNOWN_TRIES = 1000

/** What a runner needs. */
export interface PartRunnerOptions {
  readonly bus: EventBus
  readonly store: JobStore
  readonly jobs: JobLog
  /** One for each part that is worked on at once. */
  readonly readers: readonly Reader[]
  readonly cut: CutJob
  /** Finds the version of a job, loading it if need be. */
  readonly acquire: (version: string) => ReturnType<Acquire>
  readonly log: Logger
}

class JobMoved extends Error {}

/** See the top of this file. */
export class PartRunner {
  readonly #options: PartRunnerOptions
  readonly #stopping = new AbortController()
  readonly #tries = new Map<string, number>()
  readonly #underWay = new Map<string, number>()
  readonly #subscriptions: readonly Promise<Subscription | undefined>[]

  constructor(options: PartRunnerOptions) {
    const { bus, readers, log } = options
    this.#options = options
    this.#subscriptions = readers.map((reader) =>
      subscribed(this.#stopping.signal, log, () =>
        consume(bus, topics.batchParts, {
          group: GROUP,
          maxBatchRecords: 1,
          handle: async (events, { signal }) => {
            for (const { message, record } of events) {
              const job = await this.#jobOf(message)
              if (job === undefined) throw new Poison('there is no such batch job', { record })
              await this.#work(job, message, reader, signal)
            }
          },
        }),
      ),
    )
  }

  /** Rows of a job's parts that are under way here. */
  rowsUnderWay(job: string): number {
    return this.#underWay.get(job) ?? 0
  }

  /** Gives up what is under way and takes nothing more. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await Promise.all(this.#subscriptions.map(async (subscription) => await (await subscription)?.stop()))
    await Promise.all(this.#options.readers.map((reader) => reader.close()))
  }

  /** The job of a part; this replica may hear of the part first. */
  async #jobOf(due: BatchPartDue): Promise<BatchJob | undefined> {
    const { store, jobs } = this.#options
    const known = await store.get(due.job)
    if (known !== undefined && known.epoch >= due.epoch && (due.part === CUT_PART || known.isPlanned)) return known.job
    await jobs.caughtUp()
    return (await store.get(due.job))?.job
  }

  async #isVoid({ job, part, epoch }: BatchPartDue): Promise<boolean> {
    const record = await this.#options.store.get(job)
    const state = part === CUT_PART ? BatchJobState.PREPARING : BatchJobState.RUNNING
    return record === undefined || record.epoch !== epoch || record.job.state !== state
  }

  async #work(job: BatchJob, due: BatchPartDue, reader: Reader, lost: AbortSignal): Promise<void> {
    if (await this.#isVoid(due)) return
    const { jobs, log } = this.#options
    const moved = new AbortController()
    const forget = jobs.onChange((name) => {
      if (name !== due.job) return
      void this.#isVoid(due).then((isVoid) => isVoid && moved.abort(new JobMoved()))
    })
    const signal = AbortSignal.any([moved.signal, lost, this.#stopping.signal])
    const begunMs = performance.now()
    let outcome: PartOutcome = 'given_up'
    try {
      if (due.part === CUT_PART) await this.#cut(job, reader, signal)
      else await this.#write(job, due.part, reader, signal)
      this.#tries.delete(keyOf(due))
      outcome = 'done'
    } catch (error) {
      if (moved.signal.aborted) return
      signal.throwIfAborted()
      if (!(error instanceof InputError) && !this.#triedOften(due)) {
        outcome = 'retried'
        log.warn('a part of a batch job is tried again', { job: due.job, part: due.part, error })
        throw error
      }
      outcome = 'failed'
      const message = error instanceof Error ? error.message : String(error)
      await jobs.publish(due.job, { case: 'failed', value: { message } }, signal)
    } finally {
      forget()
      observePart(outcome, begunMs)
    }
  }

  #triedOften(due: BatchPartDue): boolean {
    const key = keyOf(due)
    const tries = (this.#tries.get(key) ?? 0) + 1
    if (this.#tries.size >= MAX_KNOWN_TRIES) this.#tries.clear()
    this.#tries.set(key, tries)
    return tries >= MAX_TRIES
  }

  async #cut(job: BatchJob, reader: Reader, signal: AbortSignal): Promise<void> {
    const folder = new OutputFolder(job.outputDirectory)
    const plan = (await folder.plan()) ?? (await folder.fixPlan(await this.#options.cut(job, folder, reader, signal)))
    const value = { parts: plan.parts.length, rows: BigInt(plan.rows) }
    await this.#options.jobs.publish(job.name, { case: 'planned', value }, signal)
  }

  async #write(job: BatchJob, part: number, reader: Reader, signal: AbortSignal): Promise<void> {
    const folder = new OutputFolder(job.outputDirectory)
    const { rows, rowsFailed, sizeBytes, digest } = await this.#written(folder, part, reader, signal)
    const value = { part, rows: BigInt(rows), rowsFailed: BigInt(rowsFailed), sizeBytes: BigInt(sizeBytes), digest }
    await this.#options.jobs.publish(job.name, { case: 'partWritten', value }, signal)
  }

  async #written(folder: OutputFolder, part: number, reader: Reader, signal: AbortSignal): Promise<WrittenPart> {
    const path = folder.partPath(part)
    if (await folder.hasPart(part)) return await reader.run({ kind: 'inspect', path }, { signal })
    const recipe = await folder.recipe()
    const temporary = folder.temporaryPath(part)
    try {
      const written = await this.#predict(recipe, await planned(folder, part), temporary, reader, signal)
      signal.throwIfAborted()
      if (await folder.commitPart(part, temporary)) {
        observeRows(written)
        return written
      }
      return await reader.run({ kind: 'inspect', path }, { signal })
    } finally {
      await rm(temporary, { force: true })
    }
  }

  async #predict(
    recipe: Recipe,
    { part, source }: Awaited<ReturnType<typeof planned>>,
    target: string,
    reader: Reader,
    signal: AbortSignal,
  ): Promise<WrittenPart> {
    const acquire = (): ReturnType<Acquire> => this.#options.acquire(recipe.version)
    const given = new AbortController()
    const calls = { recipe, acquire, source, signal: AbortSignal.any([signal, given.signal]) }
    let answered = 0
    const count = (rows: number): void => {
      answered += rows
      this.#underWay.set(recipe.job, this.rowsUnderWay(recipe.job) + rows)
    }
    try {
      return await reader.run(
        { kind: 'write', recipe, part, source, target },
        {
          signal,
          answer: async (inputs, rows, first) => {
            const answer = await answerCall(calls, inputs, rows, first)
            count(rows)
            return answer
          },
        },
      )
    } finally {
      given.abort(new JobMoved())
      count(-answered)
      if (this.rowsUnderWay(recipe.job) <= 0) this.#underWay.delete(recipe.job)
    }
  }
}

async function planned(folder: OutputFolder, number: number) {
  const plan = await folder.plan()
  const part = plan?.parts[number]
  const source = plan?.files[part?.file ?? -1]
  if (part === undefined || source === undefined) throw new InputError(`part ${number} is not in the plan of the job`)
  return { part, source }
}

function keyOf({ job, part, epoch }: BatchPartDue): string {
  return `${job}/${part}/${epoch}`
}
