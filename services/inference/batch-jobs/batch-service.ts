/** What callers ask about batch jobs. */
import { createHash, randomUUID } from 'node:crypto'
import { clone, create, toBinary } from '@bufbuild/protobuf'
import { BatchJobVerb } from '@slipway/proto/slipway/events/v1/batch_job'
import {
  type BatchJob,
  BatchJobSchema,
  type BatchPredictionService,
  BatchProgressSchema,
  type CreateBatchJobRequest,
} from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import { page, pageSizeOf, parsePageToken } from '@slipway/resources'
import type { Handlers } from '@slipway/rpc'
import type { JobLog } from './job-log.ts'
import { hasEnded, type JobRecord, otherJob, unknownJob } from './job-state.ts'
import type { JobStore } from './job-store.ts'
import { OutputFolder } from './output-folder.ts'
import { outputPath, type ResolveOptions, resolveJob } from './resolve-job.ts'
import { watchJob } from './watch-job.ts'

const LIST = 'batchJobs'

/** What answering needs. */
export interface BatchServiceOptions extends ResolveOptions {
  readonly store: JobStore
  readonly jobs: JobLog
  /** Rows of a job's parts that are under way here. */
  readonly rowsUnderWay: (job: string) => number
}

/** The handlers of `BatchPredictionService`. */
export function createBatchService(options: BatchServiceOptions): Handlers<typeof BatchPredictionService> {
  const { store, jobs, rowsUnderWay } = options
  const seen = ({ job }: JobRecord): BatchJob => withRowsUnderWay(job, rowsUnderWay(job.name))
  const find = async (name: string): Promise<JobRecord> => {
    const record = await store.get(name)
    if (record === undefined) throw unknownJob(name)
    return record
  }
  const command = async ({ name, etag }: { name: string; etag: string }, verb: BatchJobVerb): Promise<BatchJob> => {
    await find(name)
    await jobs.publish(name, { case: 'command', value: { verb, etag } })
    return seen(await find(name))
  }
  return {
    createBatchJob: async (request) => await createJob(request, options),
    getBatchJob: async ({ name }) => seen(await find(name)),
    listBatchJobs: async ({ pageSize, pageToken }) => {
      const size = pageSizeOf(pageSize)
      const found = await store.list(parsePageToken(LIST, pageToken, 0), size + 1)
      const { items, nextPageToken } = page(LIST, found, size, ({ number }) => number)
      return { batchJobs: items.map(({ record }) => seen(record)), nextPageToken }
    },
    pauseBatchJob: async (request) => await command(request, BatchJobVerb.PAUSE),
    resumeBatchJob: async (request) => await command(request, BatchJobVerb.RESUME),
    cancelBatchJob: async (request) => await command(request, BatchJobVerb.CANCEL),
    watchBatchJob: async function* ({ name }, { signal }) {
      for await (const record of watchJob({ read: () => find(name), name, jobs, signal })) {
        const batchJob = seen(record)
        yield { batchJob }
        if (hasEnded(batchJob.state)) return
      }
    },
  }
}

async function createJob(
  { batchJob, validateOnly }: CreateBatchJobRequest,
  options: BatchServiceOptions,
): Promise<BatchJob> {
  const { store, jobs } = options
  const asked = askedFor(batchJob ?? create(BatchJobSchema))
  const requestDigest = createHash('sha256').update(toBinary(BatchJobSchema, asked)).digest('hex')
  const known = await store.get(asked.name)
  if (known !== undefined) {
    if (known.requestDigest !== requestDigest) throw otherJob(asked.name)
    return known.job
  }
  const job = clone(BatchJobSchema, asked)
  if (job.name === '') job.name = `batchJobs/job-${randomUUID().slice(0, 13)}`
  const { recipe, mappings } = await resolveJob(job, options)
  const folder = new OutputFolder(job.outputDirectory)
  job.modelVersion = recipe.version
  job.digest = recipe.digest
  job.resolvedColumns = [...mappings]
  if (validateOnly) {
    await folder.check(recipe)
    return job
  }
  await folder.claim(recipe)
  await jobs.publish(job.name, { case: 'created', value: { batchJob: job, requestDigest } })
  return (await store.get(job.name))?.job ?? job
}

/** What of a job is the caller's to say. */
function askedFor({ name, modelVersion, input, outputDirectory, options }: BatchJob): BatchJob {
  const asked = create(BatchJobSchema, { name, modelVersion, outputDirectory: outputPath(outputDirectory) })
  asked.input = input
  if (options !== undefined) asked.options = options
  return asked
}

function withRowsUnderWay(job: BatchJob, rows: number): BatchJob {
  if (rows === 0) return job
  const seen = clone(BatchJobSchema, job)
  seen.progress ??= create(BatchProgressSchema)
  seen.progress.rowsUnderWay = BigInt(rows)
  return seen
}
