/**
 * What a replica knows of all jobs, in its own SQLite file.
 *
 * 1. An event and its offset are applied in one transaction, so a replica that is killed goes on behind the last event
 *    that it applied; one that comes again changes nothing.
 * 2. A replica whose file is lost is a new one, and learns everything from the log.
 */
import { randomUUID } from 'node:crypto'
import { fromBinary, toBinary } from '@bufbuild/protobuf'
import type { BatchJobChanged } from '@slipway/proto/slipway/events/v1/batch_job'
import { BatchJobSchema } from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import { migrate, openSqlite } from '@slipway/storage'
import type { Kysely, Selectable, Transaction } from 'kysely'
import { applyEvent, type JobRecord, type Outcome } from './job-state.ts'
import type { WrittenPart } from './reader-protocol.ts'
import { migrations, type Schema } from './schema.ts'

/** A part that is written, by its number. */
export interface StoredPart extends WrittenPart {
  readonly part: number
}

/** See the top of this file. */
export class JobStore {
  readonly #database: Kysely<Schema>
  /** Names this replica among all that share the bus. */
  readonly replica: string
  #lastOffset: bigint

  private constructor(database: Kysely<Schema>, replica: string, lastOffset: bigint) {
    this.#database = database
    this.replica = replica
    this.#lastOffset = lastOffset
  }

  /** Opens the store of a replica. */
  static async open(path: string): Promise<JobStore> {
    const database = openSqlite<Schema>({ path })
    await migrate(database, migrations)
    const known = await database.selectFrom('replica').selectAll().executeTakeFirst()
    if (known !== undefined) return new JobStore(database, known.id, BigInt(known.last_offset))
    const id = randomUUID()
    await database.insertInto('replica').values({ id, last_offset: '-1' }).execute()
    return new JobStore(database, id, -1n)
  }

  /** Offset of the event that was applied last; -1 before the first. */
  get lastOffset(): bigint {
    return this.#lastOffset
  }

  /** Applies an event; undefined when it was applied before. */
  async apply(event: BatchJobChanged, offset: bigint, timeMicros: bigint): Promise<Outcome | undefined> {
    if (offset <= this.#lastOffset) return undefined
    const outcome = await this.#database.transaction().execute(async (transaction) => {
      const isNewPart = await this.#isNewPart(transaction, event)
      const known = await readJob(transaction, event.job)
      const result = applyEvent(known?.record, event, { timeMicros, offset, isNewPart })
      if (result.record !== undefined) {
        await writeJob(transaction, result.record, known?.number ?? Number(offset))
        if (event.change.case === 'partWritten') await writePart(transaction, event.job, event.change.value)
      }
      await transaction
        .updateTable('replica')
        .set({ last_offset: String(offset) })
        .execute()
      return result
    })
    this.#lastOffset = offset
    return outcome
  }

  /** A job; undefined when there is none of that name. */
  async get(name: string): Promise<JobRecord | undefined> {
    return (await readJob(this.#database, name))?.record
  }

  /** Jobs, newest first, below a number. */
  async list(below: number | undefined, limit: number): Promise<{ number: number; record: JobRecord }[]> {
    let query = this.#database.selectFrom('jobs').selectAll().orderBy('number', 'desc').limit(limit)
    if (below !== undefined) query = query.where('number', '<', below)
    return (await query.execute()).map((row) => ({ number: row.number, record: recordOf(row) }))
  }

  /** The written parts of a job, by number. */
  async parts(job: string): Promise<StoredPart[]> {
    const rows = await this.#database.selectFrom('parts').selectAll().where('job', '=', job).orderBy('part').execute()
    return rows.map((row) => ({
      part: row.part,
      rows: row.rows,
      rowsFailed: row.rows_failed,
      sizeBytes: row.size_bytes,
      digest: row.digest,
    }))
  }

  /** Whether a part of a job is written. */
  async hasPart(job: string, part: number): Promise<boolean> {
    return await isWritten(this.#database, job, part)
  }

  /** Closes the file. */
  async close(): Promise<void> {
    await this.#database.destroy()
  }

  async #isNewPart(database: Kysely<Schema>, { job, change }: BatchJobChanged): Promise<boolean> {
    return change.case === 'partWritten' && !(await isWritten(database, job, change.value.part))
  }
}

async function isWritten(database: Kysely<Schema>, job: string, part: number): Promise<boolean> {
  const query = database.selectFrom('parts').select('part').where('job', '=', job).where('part', '=', part)
  return (await query.executeTakeFirst()) !== undefined
}

async function readJob(database: Kysely<Schema>, name: string) {
  const row = await database.selectFrom('jobs').selectAll().where('name', '=', name).executeTakeFirst()
  return row === undefined ? undefined : { number: row.number, record: recordOf(row) }
}

function recordOf(row: Selectable<Schema['jobs']>): JobRecord {
  return {
    job: fromBinary(BatchJobSchema, row.message),
    requestDigest: row.request_digest,
    isPlanned: row.is_planned === 1,
    epoch: row.epoch,
    runningSinceMicros: row.running_since_micros === null ? undefined : BigInt(row.running_since_micros),
    ranMicros: BigInt(row.ran_micros),
  }
}

async function writeJob(transaction: Transaction<Schema>, record: JobRecord, number: number): Promise<void> {
  const { job, requestDigest, isPlanned, epoch, runningSinceMicros, ranMicros } = record
  const values = {
    message: toBinary(BatchJobSchema, job),
    request_digest: requestDigest,
    is_planned: isPlanned ? 1 : 0,
    epoch,
    running_since_micros: runningSinceMicros === undefined ? null : String(runningSinceMicros),
    ran_micros: String(ranMicros),
  }
  await transaction
    .insertInto('jobs')
    .values({ name: job.name, number, ...values })
    .onConflict((conflict) => conflict.column('name').doUpdateSet(values))
    .execute()
}

async function writePart(
  transaction: Transaction<Schema>,
  job: string,
  part: { part: number; rows: bigint; rowsFailed: bigint; sizeBytes: bigint; digest: string },
): Promise<void> {
  const values = {
    job,
    part: part.part,
    rows: Number(part.rows),
    rows_failed: Number(part.rowsFailed),
    size_bytes: Number(part.sizeBytes),
    digest: part.digest,
  }
  await transaction.insertInto('parts').values(values).execute()
}
