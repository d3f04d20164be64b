/**
 * Training sets: made once, named by what they contain, never changed.
 *
 * 1. The same request gives the same dataset; equal content has an equal digest, whenever it was made.
 * 2. A dataset is recorded after its file is stored; one that broke off is never seen.
 */
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
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
import { Failure } from '@slipway/rpc'
import type { BlobStore } from '@slipway/storage'
import type { Kysely } from 'kysely'
import { digestOf } from './digests.ts'
import type { FeatureServices, ResolvedService } from './feature-services.ts'
import type { JoinTask, OfflineStore } from './offline-store/offline-store.ts'
import type { Parts } from './parts.ts'
import { createProgressQueue } from './progress-queue.ts'
import { notFound } from './refusals.ts'
import type { Schema } from './schema.ts'
import { type Clock, microsFromTimestamp, timestampFromMicros } from './time.ts'

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

/** All datasets. */
export class Datasets {
  readonly #options: DatasetsOptions
  #made = 0

  constructor(options: DatasetsOptions) {
    this.#options = options
  }

  /** Makes a training set and tells how far it is; the last message has the dataset. */
  async *create(request: CreateTrainingSetRequest, signal: AbortSignal): AsyncGenerator<Progress> {
    const service = this.#options.services.get(request.featureService, request.featureServiceDigest)
    const requestKey = keyOf(request, service)
    const known = requestKey && (await this.#find('request_key', requestKey))
    if (known) {
      yield { percent: 100, stage: 'made before', dataset: known }
      return
    }
    yield { percent: 0, stage: 'collecting rows' }
    const progress = createProgressQueue<Progress>()
    const making = this.#make(request, service, requestKey, signal, (percent, stage) =>
      progress.push({ percent, stage }),
    )
    making.then(progress.end, progress.end)
    yield* progress.items()
    yield { percent: 100, stage: 'done', dataset: await making }
  }

  async get(name: string): Promise<Dataset> {
    return (await this.#find('name', name)) ?? notFound(name)
  }

  /** Newest first: at most `limit` after the one of this name. */
  async list(limit: number, after: string): Promise<Dataset[]> {
    const before = after === '' ? undefined : await this.#row('name', after)
    let query = this.#options.database.selectFrom('datasets').selectAll()
    if (before !== undefined) query = query.where('create_micros', '<', before.create_micros)
    const rows = await query.orderBy('create_micros', 'desc').limit(limit).execute()
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
    const directory = join(this.#options.workDirectory, `${process.pid}-${this.#made++}`)
    await mkdir(directory, { recursive: true })
    try {
      const now = clock()
      const task = await this.#task(request, service, directory)
      const rowCount = await offline.join(task, {
        onProgress: (done, stage) => tell(Math.min(99, 10 + Math.floor(done * 85)), stage),
        signal,
      })
      const stored = await blobs.put(createReadStream(task.outputPath))
      const files = [{ path: fileName, digest: stored.digest, sizeBytes: BigInt(stored.sizeBytes) }]
      const dataset = describe(request, service, { rowCount, files, revision: task.revision, now })
      return await this.#keep(dataset, requestKey ?? dataset.digest, now)
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  }

  async #task(request: CreateTrainingSetRequest, service: ResolvedService, directory: string): Promise<JoinTask> {
    const { blobs, parts } = this.#options
    if ((await blobs.stat(request.spineDigest)) === undefined) {
      throw Failure.invalid('spine_digest', `there is no uploaded spine ${request.spineDigest}`)
    }
    const spinePath = join(directory, 'spine.parquet')
    await pipeline(blobs.read(request.spineDigest), createWriteStream(spinePath))
    const views = [...new Set(service.columns.map(({ view }) => view))]
    const history = await parts.complete(views)
    const { createdBefore } = request
    return {
      spinePath,
      timeColumn: request.timeColumn || 'event_time',
      views,
      partsDirectory: parts.directory,
      parts: history.parts,
      columns: columnNames(service),
      visibility: request.asOf === AsOf.EVENT ? 'event' : 'known',
      createdBeforeMicros: createdBefore === undefined ? latestMicros : microsFromTimestamp(createdBefore),
      revision: request.revision > 0n && request.revision < history.revision ? request.revision : history.revision,
      includeTimes: request.includeTimes,
      outputPath: join(directory, fileName),
    }
  }

  async #keep(dataset: Dataset, requestKey: string, now: bigint): Promise<Dataset> {
    await this.#options.database
      .insertInto('datasets')
      .values({
        name: dataset.name,
        request_key: requestKey,
        dataset: toBinary(DatasetSchema, dataset),
        create_micros: Number(now),
      })
      .onConflict((conflict) => conflict.doNothing())
      .execute()
    return dataset
  }

  async #find(column: 'name' | 'request_key', value: string): Promise<Dataset | undefined> {
    const row = await this.#row(column, value)
    return row && fromBinary(DatasetSchema, row.dataset)
  }

  async #row(column: 'name' | 'request_key', value: string) {
    return await this.#options.database.selectFrom('datasets').selectAll().where(column, '=', value).executeTakeFirst()
  }
}

/** A request is answered from before only when it says itself up to which revision rows count. */
function keyOf(request: CreateTrainingSetRequest, service: ResolvedService): string | undefined {
  if (request.revision === 0n) return undefined
  const { spineDigest, timeColumn, asOf, createdBefore, revision, includeTimes } = request
  const before = createdBefore === undefined ? '' : String(microsFromTimestamp(createdBefore))
  return digestOf([spineDigest, timeColumn, service.message.digest, asOf, before, String(revision), includeTimes])
}

/** A feature's column has its name; where two views have a feature of that name, `{view}__{feature}`. */
function columnNames(service: ResolvedService): JoinTask['columns'] {
  const names = service.columns.map(({ name }) => name)
  return service.columns.map(({ view, index, name }) => {
    const isShared = names.indexOf(name) !== names.lastIndexOf(name)
    return { tableId: view.tableId, index, name: isShared ? `${view.id}__${name}` : name }
  })
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
    timeColumn: request.timeColumn || 'event_time',
    asOf: request.asOf === AsOf.EVENT ? 'EVENT' : 'KNOWN',
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
