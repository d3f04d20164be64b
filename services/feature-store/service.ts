/** The handlers of the feature store: each checks its request, calls one thing and maps the result. */
import type { MessageInitShape } from '@bufbuild/protobuf'
import {
  type DownloadDatasetRequest,
  type DownloadDatasetResponseSchema,
  type FeatureStoreService,
  type GetOnlineFeaturesRequest,
  type GetOnlineFeaturesResponseSchema,
  type WriteFeaturesResponseSchema,
  WriteOutcome,
} from '@slipway/proto/slipway/features/v1/feature_store_service'
import type { FeatureRow } from '@slipway/proto/slipway/features/v1/value'
import { microsFromTimestamp, page, pageSizeOf, parsePageToken } from '@slipway/resources'
import { Code, Failure, type Handlers } from '@slipway/rpc'
import type { BlobStore } from '@slipway/storage'
import type { Datasets } from './datasets.ts'
import type { FeatureServices } from './feature-services.ts'
import { observeRead } from './observer.ts'
import type { OnlineStore } from './online-store/online-store.ts'
import { pageOf } from './pages.ts'
import type { Parts } from './parts.ts'
import { readOnline, visibilityOf } from './reads.ts'
import { inUse } from './refusals.ts'
import { receiveSpine } from './spines.ts'
import { type Clock, isValidTimestamp } from './time.ts'
import { createTurns } from './turns.ts'
import type { Views } from './views.ts'
import type { RowResult, Writes } from './writes.ts'

/** What the service answers from. */
export interface FeatureStoreParts {
  readonly views: Views
  readonly services: FeatureServices
  readonly writes: Writes
  readonly online: OnlineStore
  readonly parts: Parts
  readonly datasets: Datasets
  readonly blobs: BlobStore
  readonly clock: Clock
  readonly maxSpineBytes: number
  /** Aborted when the service stops. */
  readonly stopping: AbortSignal
}

/** The handlers of the feature store. */
export function createFeatureStoreService(parts: FeatureStoreParts): Handlers<typeof FeatureStoreService> {
  const { datasets, blobs, stopping } = parts
  return {
    ...definitionHandlers(parts),
    writeFeatures: async ({ rows }) => await write(parts, rows),
    streamWriteFeatures: async function* (requests) {
      for await (const { rows } of requests) yield { result: await write(parts, rows) }
    },
    getOnlineFeatures: async (request) => await getOnlineFeatures(parts, request),
    uploadSpine: async (requests) => await receiveSpine(requests, { blobs, maxBytes: parts.maxSpineBytes }),
    getSpineUpload: async ({ uploadId }) => {
      const { receivedBytes } = await blobs.stage(uploadId)
      return { receivedBytes: BigInt(receivedBytes) }
    },
    createTrainingSet: (request, call) => datasets.create(request, AbortSignal.any([call.signal, stopping])),
    getDataset: async ({ name }) => await datasets.get(name),
    listDatasets: async ({ pageSize, pageToken }) => {
      const size = pageSizeOf(pageSize)
      const found = await datasets.list(size + 1, parsePageToken('datasets', pageToken, '') ?? '')
      const { items, nextPageToken } = page('datasets', found, size, ({ name }) => name)
      return { datasets: items, nextPageToken }
    },
    downloadDataset: (request) => download(parts, request),
  }
}

type DefinitionMethods =
  | `${'create' | 'get' | 'delete'}Entity`
  | `${'create' | 'get' | 'update' | 'delete'}${'FeatureView' | 'FeatureService'}`
  | 'listEntities'
  | 'listFeatureViews'
  | 'listFeatureServices'

/** A change looks at what there is and then writes, so one runs at a time. */
function definitionHandlers(parts: FeatureStoreParts): Pick<Handlers<typeof FeatureStoreService>, DefinitionMethods> {
  const { views, services } = parts
  const changes = createTurns()
  return {
    createEntity: ({ entity }) => changes.take(() => views.createEntity(required(entity, 'entity'))),
    getEntity: async ({ name }) => views.getEntity(name),
    listEntities: async (request) => {
      const { items, nextPageToken } = pageOf('entities', views.entities(), request)
      return { entities: items, nextPageToken }
    },
    deleteEntity: ({ name, etag }) => changes.take(() => views.deleteEntity(name, etag)),
    createFeatureView: ({ featureView }) => changes.take(() => views.create(required(featureView, 'feature_view'))),
    getFeatureView: async ({ name, digest }) => views.get(name, digest).message,
    listFeatureViews: async (request) => {
      const { items, nextPageToken } = pageOf('featureViews', views.list(), request)
      return { featureViews: items, nextPageToken }
    },
    updateFeatureView: ({ featureView, updateMask }) =>
      changes.take(() => views.update(required(featureView, 'feature_view'), updateMask?.paths ?? [])),
    deleteFeatureView: ({ name, etag }) => changes.take(() => deleteFeatureView(parts, name, etag)),
    createFeatureService: ({ featureService }) =>
      changes.take(() => services.create(required(featureService, 'feature_service'))),
    getFeatureService: async ({ name, digest }) => services.get(name, digest).message,
    listFeatureServices: async (request) => {
      const { items, nextPageToken } = pageOf('featureServices', services.list(), request)
      return { featureServices: items, nextPageToken }
    },
    updateFeatureService: ({ featureService, updateMask }) =>
      changes.take(() => services.update(required(featureService, 'feature_service'), updateMask?.paths ?? [])),
    deleteFeatureService: ({ name, etag }) => changes.take(() => services.remove(name, etag)),
  }
}

async function deleteFeatureView({ views, services, online, parts }: FeatureStoreParts, name: string, etag: string) {
  const user = services.userOf(views.get(name).version.id)
  if (user !== undefined) throw inUse(name, user)
  const { message, version } = await views.remove(name, etag)
  await online.drop(version.tableId)
  parts.drop(version.tableId)
  return message
}

async function write(
  { writes }: FeatureStoreParts,
  rows: readonly FeatureRow[],
): Promise<MessageInitShape<typeof WriteFeaturesResponseSchema>> {
  const results = await writes.write(rows)
  const count = (outcome: string) =>
    results.filter((result) => 'outcome' in result && result.outcome === outcome).length
  const appliedCount = count('applied')
  return {
    appliedCount,
    staleCount: count('stale'),
    duplicateCount: count('duplicate'),
    rejected: results.flatMap((result, index) => {
      if (!('problem' in result)) return []
      const { field, code, description } = result.problem
      return [{ index, field, code, reason: `${field}: ${description}` }]
    }),
    outcomes: appliedCount === rows.length ? [] : results.map(wireOutcome),
  }
}

function wireOutcome(result: RowResult): WriteOutcome {
  if ('problem' in result) return WriteOutcome.REJECTED
  return { applied: WriteOutcome.APPLIED, stale: WriteOutcome.STALE, duplicate: WriteOutcome.DUPLICATE }[result.outcome]
}

async function getOnlineFeatures(
  { services, online, clock }: FeatureStoreParts,
  request: GetOnlineFeaturesRequest,
): Promise<MessageInitShape<typeof GetOnlineFeaturesResponseSchema>> {
  const { selection, asOf, visibility, includeStale } = request
  if (asOf !== undefined && !isValidTimestamp(asOf)) throw Failure.invalid('as_of', 'lies in the years 1 to 9999')
  if (selection.case === 'features' && request.featureServiceDigest !== '') {
    throw Failure.invalid('feature_service_digest', 'goes with a feature service only')
  }
  const service =
    selection.case === 'featureService' ? services.get(selection.value, request.featureServiceDigest) : undefined
  const columns =
    service?.columns ??
    services.resolve(selection.case === 'features' ? selection.value.features : [], 'features.features')
  const { entityRows } = request
  const timeMicros = asOf === undefined ? clock() : microsFromTimestamp(asOf)
  const read = { columns, entityRows, timeMicros, visibility: visibilityOf(visibility), includeStale }
  const vectors = await observeRead(service?.message.name ?? '', entityRows.length, () => readOnline(online, read))
  return {
    features: columns.map(({ reference }) => reference),
    types: columns.map(({ type }) => type),
    vectors,
    featureServiceDigest: service?.message.digest ?? '',
  }
}

async function* download(
  { datasets, blobs }: FeatureStoreParts,
  { name, path, offset }: DownloadDatasetRequest,
): AsyncGenerator<MessageInitShape<typeof DownloadDatasetResponseSchema>> {
  const { digest, sizeBytes } = await datasets.file(name, path)
  if (offset > sizeBytes) {
    const message = `the file has ${sizeBytes} bytes, and ${offset} lies behind them`
    throw new Failure(Code.OUT_OF_RANGE, 'OFFSET_OUT_OF_RANGE', message)
  }
  let at = offset
  for await (const chunk of blobs.read(digest, { offset: Number(offset) })) {
    yield { offset: at, chunk, sizeBytes }
    at += BigInt(chunk.length)
  }
  // An empty answer would not tell the size.
  if (at === offset) yield { offset: at, sizeBytes }
}

function required<T>(value: T | undefined, field: string): T {
  if (value === undefined) throw Failure.invalid(field, 'must be set')
  return value
}
