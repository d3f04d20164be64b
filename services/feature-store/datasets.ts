/**
 * Training sets: made once, named by what they contain, never changed.
 *
 * 1. The same request gives the same dataset; equal content has an equal digest, whenever it was made.
 * 2. A dataset is recorded after its file is stored; one that broke off is never seen.
 * 3. A request that names its revision is answered from the record when it comes again.
 */
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import {
  AsOf,
  type CreateTrainingSetRequest,
  type CreateTrainingSetResponseSchema,
  type Dataset,
  DatasetSchema,
} from '@slipway/proto/slipway/features/v1/feature_store_service'
import { microsFromTimestamp, timestampFromMicros } from '@slipway/resources'
import { Failure } from '@slipway/rpc'
import type { BlobStore } from '@slipway/storage'
import { attribute } from '@slipway/telemetry'
import type { Kysely } from 'kysely'
import { digestOf } from './digests.ts'
import type { FeatureServices, ResolvedService } from './feature-services.ts'
import { inSpan } from './observer.ts'
import type { JoinTask, OfflineStore } from './offline-store/offline-store.ts'
import type { Parts } from './parts.ts'
import { createProgressQueue } from './progress-queue.ts'
import { visibilityOf } from './reads.ts'
import { busy, notFound } from './refusals.ts'
import type { Schema } from './schema.ts'
import { type Clock, isValidTimestamp } from './time.ts'

/** What datasets are made from and kept in. */
export interface DatasetsOptions {
  readonly database: Kysely<Schema>
  readonly blobs: BlobStore
  readonly services: FeatureServices
  readonly parts: Parts
  readonly offline: OfflineStore
  readonly clock: Clock
  /** Folder for files in the making. */
  readonly workDirectory: string
}

type Progress = MessageInitShape<typeof CreateTrainingSetResponseSchema>

const fileName = 'training-set.parquet'
const latestMicros = 2n ** 63n - 1n

/** Training sets that are made or wait at a time; each keeps a copy of its spine on disk meanwhile. */
export const maxMaking = 16
const retryAfterMs = 5000

/** All datasets. */
export class Datasets {
  readonly #options: DatasetsOptions
  #making = 0

  constructor(options: DatasetsOptions) {
    this.#options = options
  }

  /** Makes a training set and tells how far it is; the last message has the dataset. */
  async *create(request: CreateTrainingSetRequest, signal: AbortSignal): AsyncGenerator<Progress> {
    const service = this.#options.services.get(request.featureService, request.featureServiceDigest)
    if (request.createdBefore !== undefined && !isValidTimestamp(request.createdBefore)) {
      throw Failure.invalid('created_before', 'lies in the years 1 to 9999')
    }
    const requestKey = keyOf(request, service)
    const known = requestKey && (await this.#madeBefore(requestKey))
    if (known) {
      yield { percent: 100, stage: 'made before', dataset: known }
      return
    }
    yield { percent: 0, stage: 'collecting rows' }
    if (this.#making >= maxMaking) throw busy('training sets', maxMaking, retryAfterMs)
    const progress = createProgressQueue<Progress>()
    const making = this.#make(request, service, requestKey, signal, (percent, stage) =>
      progress.push({ percent, stage }),
    )
    this.#making += 1
    const end = () => {
      this.#making -= 1
      progress.end()
    }
    making.then(end, end)
    yield* progress.items()
    yield { percent: 100, stage: 'done', dataset: await making }
  }

  async get(name: string): Promise<Dataset> {
    const row = (await this.#row(name)) ?? notFound(name)
    return fromBinary(DatasetSchema, row.dataset)
  }

  /** Newest first: at most `limit` after the one of this name. INVALID_ARGUMENT when there is none of that name. */
  async list(limit: number, after: string): Promise<Dataset[]> {
    let query = this.#options.database.selectFrom('datasets').select('dataset')
    if (after !== '') {
      const last = await this.#row(after)
      if (last === undefined) throw Failure.invalid('page_token', 'is not a token that this list gave')
      const { create_micros: micros, name } = last
      query = query.where((row) =>
        row.or([row('create_micros', '<', micros), row('create_micros', '=', micros).and('name', '>', name)]),
      )
    }
    const rows = await query.orderBy('create_micros', 'desc').orderBy('name').limit(limit).execute()
    return rows.map(({ dataset }) => fromBinary(DatasetSchema, dataset))
  }

  /** Digest and size of a file of a dataset. */
  async file(name: string, path: string): Promise<{ digest: string; sizeBytes: bigint }> {
    const dataset = await this.get(name)
    return dataset.files.find((file) => file.path === path) ?? notFound(`${name}/${path}`)
  }

  async #make(
    request: CreateTrainingSetRequest,
    service: ResolvedService,
    requestKey: string | undefined,
    signal: AbortSignal,
    tell: (percent: number, stage: string) => void,
  ): Promise<Dataset> {
    const { blobs, offline, clock } = this.#options
    await mkdir(this.#options.workDirectory, { recursive: true })
    const directory = await mkdtemp(join(this.#options.workDirectory, 'dataset-'))
    try {
      const task = await this.#task(request, service, directory, signal)
      const onProgress = (done: number, stage: string) => tell(Math.min(99, 10 + Math.floor(done * 85)), stage)
      const rowCount = await inSpan('join training set', { [attribute.featureService]: service.message.name }, () =>
        offline.join(task, { onProgress, signal }),
      )
      const stored = await blobs.put(createReadStream(task.outputPath))
      const now = clock()
      const files = [{ path: fileName, digest: stored.digest, sizeBytes: BigInt(stored.sizeBytes) }]
      const dataset = describe(request, service, { rowCount, files, revision: task.revision, now })
      return await this.#keep(dataset, requestKey, now)
    } catch (error) {
      signal.throwIfAborted()
      throw error
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  }

  async #task(
    request: CreateTrainingSetRequest,
    service: ResolvedService,
    directory: string,
    signal: AbortSignal,
  ): Promise<JoinTask> {
    const { blobs, parts } = this.#options
    if ((await blobs.stat(request.spineDigest)) === undefined) {
      throw Failure.invalid('spine_digest', `there is no uploaded spine ${request.spineDigest}`)
    }
    const spinePath = join(directory, 'spine.parquet')
    await pipeline(blobs.read(request.spineDigest), createWriteStream(spinePath), { signal })
    const views = [...new Set(service.columns.map(({ view }) => view))]
    const history = await parts.complete(
      views.map(({ tableId }) => tableId),
      signal,
    )
    if (request.revision > history.revision) {
      throw Failure.invalid('revision', `the store is at revision ${history.revision}`)
    }
    const { createdBefore } = request
    return {
      spinePath,
      timeColumn: timeColumnOf(request),
      views,
      partsDirectory: parts.directory,
      parts: history.parts,
      columns: service.columns.map(({ view, index, column }) => ({ tableId: view.tableId, index, name: column })),
      visibility: visibilityOf(request.asOf),
      createdBeforeMicros: createdBefore === undefined ? latestMicros : microsFromTimestamp(createdBefore),
      revision: request.revision > 0n ? request.revision : history.revision,
      includeTimes: request.includeTimes,
      outputPath: join(directory, fileName),
    }
  }

  /** Records a dataset; gives the first of equal content. */
  async #keep(dataset: Dataset, requestKey: string | undefined, now: bigint): Promise<Dataset> {
    const { name } = dataset
    return await this.#options.database.transaction().execute(async (transaction) => {
      await transaction
        .insertInto('datasets')
        .values({ name, dataset: toBinary(DatasetSchema, dataset), create_micros: Number(now) })
        .onConflict((conflict) => conflict.doNothing())
        .execute()
      if (requestKey !== undefined) {
        await transaction
          .insertInto('dataset_requests')
          .values({ request_key: requestKey, name })
          .onConflict((conflict) => conflict.doNothing())
          .execute()
      }
      const kept = await transaction.selectFrom('datasets').select('dataset').where('name', '=', name).execute()
      return kept[0] === undefined ? dataset : fromBinary(DatasetSchema, kept[0].dataset)
    })
  }

  async #row(name: string) {
    return await this.#options.database.selectFrom('datasets').selectAll().where('name', '=', name).executeTakeFirst()
  }

  async #madeBefore(requestKey: string): Promise<Dataset | undefined> {
    const row = await this.#options.database
      .selectFrom('dataset_requests as r')
      .innerJoin('datasets as d', 'd.name', 'r.name')
      .select('d.dataset')
      .where('r.request_key', '=', requestKey)
      .executeTakeFirst()
    return row && fromBinary(DatasetSchema, row.dataset)
  }
}

/** A request is answered from before only when it says itself up to which revision rows count. */
function keyOf(request: CreateTrainingSetRequest, service: ResolvedService): string | undefined {
  if (request.revision === 0n) return undefined
  const { spineDigest, createdBefore, revision, includeTimes } = request
  const { name, digest } = service.message
  const before = createdBefore === undefined ? '' : String(microsFromTimestamp(createdBefore))
  const [time, visibility] = [timeColumnOf(request), visibilityOf(request.asOf)]
  return digestOf([spineDigest, time, name, digest, visibility, before, String(revision), includeTimes])
}

function timeColumnOf({ timeColumn }: CreateTrainingSetRequest): string {
  return timeColumn || 'event_time'
}

function describe(
  request: CreateTrainingSetRequest,
  service: ResolvedService,
  made: {
    rowCount: number
    files: { path: string; digest: string; sizeBytes: bigint }[]
    revision: bigint
    now: bigint
  },
): Dataset {
  const manifest = JSON.stringify({
    featureService: service.message.name,
    featureServiceDigest: service.message.digest,
    views: Object.fromEntries(Object.entries(service.message.viewDigests).sort(([a], [b]) => (a < b ? -1 : 1))),
    spineDigest: request.spineDigest,
    timeColumn: timeColumnOf(request),
    asOf: visibilityOf(request.asOf).toUpperCase(),
    rows: made.rowCount,
    files: made.files.map(({ path, digest, sizeBytes }) => ({ path, digest, sizeBytes: String(sizeBytes) })),
  })
  const digest = digestOf(JSON.parse(manifest))
  return create(DatasetSchema, {
    name: `datasets/${digest.slice('sha256:'.length)}`,
    digest,
    rowCount: BigInt(made.rowCount),
    files: made.files,
    spineDigest: request.spineDigest,
    featureService: service.message.name,
    featureServiceDigest: service.message.digest,
    asOf: request.asOf === AsOf.EVENT ? AsOf.EVENT : AsOf.KNOWN,
    ...(request.createdBefore === undefined ? {} : { createdBefore: request.createdBefore }),
    createTime: timestampFromMicros(made.now),
    revision: made.revision,
    manifest,
  })
}
