/**
 * Immutable versions.
 *
 * 1. Numbers of a model's versions count from 1 without a gap: the counter moves in the transaction that makes the version.
 * 2. A request id makes one version, however often and from however many callers at once it is sent.
 * 3. Every file of a version was uploaded and checked before the version exists.
 */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { versionDigest } from '@slipway/models'
import { OnnxError, readModel } from '@slipway/onnx'
import {
  GateReportSchema,
  GateState,
  type ModelFile,
  type ModelVersion,
  ModelVersionSchema,
  type Signature,
  SignatureSchema,
} from '@slipway/proto/slipway/registry/v1/model'
import type { CreateVersionRequest } from '@slipway/proto/slipway/registry/v1/registry_service'
import { Code, Failure, type FieldViolation } from '@slipway/rpc'
import type { BlobStore } from '@slipway/storage'
import type { Kysely, Selectable } from 'kysely'
import { checkBindings, defaultOutputs } from './bindings.ts'
import type { Change, Ledger } from './ledger.ts'
import { requireModel } from './models.ts'
import { modelName, parseModelName, parseVersionName, type VersionKey, versionName } from './names.ts'
import { defaultPageSize, page, parsePageToken } from './pages.ts'
import { checkReferences } from './references.ts'
import type { Schema } from './schema.ts'
import { timestampFromMicros } from './time.ts'

/** The file of a version that holds its graph. */
export const graphPath = 'model.onnx'

/** What versions need. */
export interface VersionsOptions {
  readonly ledger: Ledger
  readonly blobs: BlobStore
  /** Largest graph that is read, in bytes. */
  readonly maxGraphBytes: number
}

/** Creates and reads versions. */
export class Versions {
  readonly #ledger: Ledger
  readonly #blobs: BlobStore
  readonly #maxGraphBytes: number

  constructor(options: VersionsOptions) {
    this.#ledger = options.ledger
    this.#blobs = options.blobs
    this.#maxGraphBytes = options.maxGraphBytes
  }

  async create(request: CreateVersionRequest, actor: string): Promise<ModelVersion> {
    const modelId = parseModelName(request.parent, 'parent')
    const requestDigest = versionDigest({ ...request, signature: undefined })
    const repeated = await findByRequest(this.#ledger.database, modelId, request.requestId, requestDigest)
    if (repeated !== undefined) return repeated
    await requireModel(this.#ledger.database, modelId)
    const content = await this.#check(request, modelId)
    return await this.#ledger.change(actor, async (change) => {
      const meanwhile = await findByRequest(change.sql, modelId, request.requestId, requestDigest)
      return meanwhile ?? (await insert(change, modelId, content, request.requestId, requestDigest))
    })
  }

  /** Reads a version by its number, with everything. */
  async get(key: VersionKey): Promise<ModelVersion> {
    return await requireVersion(this.#ledger.database, key)
  }

  /** Reads the version that was first registered with a digest. */
  async getByDigest(digest: string): Promise<ModelVersion> {
    const row = await this.#ledger.database
      .selectFrom('versions')
      .selectAll()
      .where('digest', '=', digest)
      .orderBy('model_id')
      .orderBy('number')
      .limit(1)
      .executeTakeFirst()
    if (row === undefined) throw versionNotFound(digest)
    return await toVersion(this.#ledger.database, row)
  }

  async list(
    parent: string,
    pageSize: number,
    token: string,
  ): Promise<{ versions: ModelVersion[]; nextPageToken: string }> {
    const sql = this.#ledger.database
    const modelId = parseModelName(parent, 'parent')
    const size = pageSize === 0 ? defaultPageSize : pageSize
    const before = parsePageToken(`${parent}/versions`, token, 0)
    await requireModel(sql, modelId)
    const rows = await sql
      .selectFrom('versions')
      .select(['model_id', 'number', 'message', 'gate_state', 'gate_report'])
      .where('model_id', '=', modelId)
      .where('number', '<', before ?? Number.MAX_SAFE_INTEGER)
      .orderBy('number', 'desc')
      .limit(size + 1)
      .execute()
    const { items, nextPageToken } = page(`${parent}/versions`, rows, size, (row) => row.number)
    const aliases = await sql
      .selectFrom('aliases')
      .select(['alias', 'number'])
      .where('model_id', '=', modelId)
      .execute()
    const versions = items.map((row) =>
      withState(
        row,
        aliases.filter((alias) => alias.number === row.number),
      ),
    )
    return { versions, nextPageToken }
  }

  async #check(request: CreateVersionRequest, modelId: string): Promise<ModelVersion> {
    const { features, featureService, lineage } = request
    const files = await this.#checkFiles(request.files)
    const signature = await this.#readSignature(files)
    const outputs = request.outputs.length > 0 ? request.outputs : defaultOutputs(signature)
    const content = create(ModelVersionSchema, {
      files: files.toSorted((a, b) => (a.path < b.path ? -1 : 1)),
      signature,
      features,
      outputs,
      featureService,
      referenceDistributions: request.referenceDistributions,
      ...(lineage && { lineage }),
    })
    const violations = [
      ...checkBindings({ features, outputs: content.outputs, featureService }, signature),
      ...checkReferences(content.referenceDistributions, features, content.outputs),
      ...(await this.#checkParent(lineage?.parentVersion ?? '', modelId)),
    ]
    if (outputs.length === 0) {
      const description = 'must name the outputs: no output tensor of the graph is one number a row'
      violations.push({ field: 'outputs', description })
    }
    if (violations.length > 0) throw invalidVersion(violations)
    content.digest = versionDigest(content)
    return content
  }

  async #checkFiles(files: readonly ModelFile[]): Promise<ModelFile[]> {
    const violations: FieldViolation[] = []
    const paths = new Set<string>()
    const checked: ModelFile[] = []
    for (const [index, file] of files.entries()) {
      const stored = await this.#blobs.stat(file.digest)
      const field = `files[${index}]`
      if (paths.has(file.path)) violations.push({ field: `${field}.path`, description: `${file.path} is named twice` })
      if (file.path.split('/').some((part) => part === '..' || part === '.')) {
        violations.push({ field: `${field}.path`, description: 'must not contain . or ..' })
      }
      paths.add(file.path)
      if (stored === undefined) {
        violations.push({ field: `${field}.digest`, description: 'is not uploaded: upload the file first' })
      } else if (file.sizeBytes !== 0n && file.sizeBytes !== BigInt(stored.sizeBytes)) {
        violations.push({
          field: `${field}.size_bytes`,
          description: `the uploaded file has ${stored.sizeBytes} bytes`,
        })
      }
      checked.push({ ...file, sizeBytes: BigInt(stored?.sizeBytes ?? 0) })
    }
    if (!paths.has(graphPath)) violations.push({ field: 'files', description: `must contain ${graphPath}` })
    if (violations.length > 0) throw invalidVersion(violations)
    return checked
  }

  async #readSignature(files: readonly ModelFile[]): Promise<Signature> {
    const index = files.findIndex((file) => file.path === graphPath)
    const graph = files[index]
    if (graph === undefined) throw Failure.invalid('files', `must contain ${graphPath}`)
    if (graph.sizeBytes > this.#maxGraphBytes) {
      throw Failure.invalid(`files[${index}].size_bytes`, `a graph has ${this.#maxGraphBytes} bytes at most`)
    }
    const pieces: Uint8Array[] = []
    for await (const piece of this.#blobs.read(graph.digest)) pieces.push(piece)
    try {
      const { inputs, outputs, opsets, externalFiles } = readModel(Buffer.concat(pieces))
      const absent = externalFiles.filter((path) => !files.some((file) => file.path === path))
      if (absent.length > 0)
        throw Failure.invalid('files', `must contain ${absent.join(', ')}, which the graph refers to`)
      return create(SignatureSchema, {
        inputs: inputs.map((tensor) => ({ ...tensor, shape: tensor.shape.map(BigInt) })),
        outputs: outputs.map((tensor) => ({ ...tensor, shape: tensor.shape.map(BigInt) })),
        opsets: Object.fromEntries(Object.entries(opsets).map(([domain, version]) => [domain, BigInt(version)])),
      })
    } catch (error) {
      if (error instanceof OnnxError) throw Failure.invalid(`files[${index}]`, `is not a model: ${error.message}`)
      throw error
    }
  }

  async #checkParent(parent: string, modelId: string): Promise<FieldViolation[]> {
    const field = 'lineage.parent_version'
    if (parent === '') return []
    const key = parseVersionName(parent, field)
    if (key.modelId !== modelId) return [{ field, description: `must be a version of ${modelName(modelId)}` }]
    const row = await selectVersion(this.#ledger.database, key).executeTakeFirst()
    return row === undefined ? [{ field, description: `there is no ${parent}` }] : []
  }
}

/** Reads a version; NOT_FOUND when there is none. */
export async function requireVersion(sql: Kysely<Schema>, key: VersionKey): Promise<ModelVersion> {
  const row = await selectVersion(sql, key).executeTakeFirst()
  if (row === undefined) throw versionNotFound(versionName(key))
  return await toVersion(sql, row)
}

/** Enters a version as it now is, without its reference distributions. */
export async function recordVersion(change: Change, key: VersionKey): Promise<ModelVersion> {
  const version = await requireVersion(change.sql, key)
  await change.record(key.modelId, { case: 'version', value: { ...version, referenceDistributions: [] } })
  return version
}

async function insert(
  change: Change,
  modelId: string,
  content: ModelVersion,
  requestId: string,
  requestDigest: string,
): Promise<ModelVersion> {
  const counter = await change.sql
    .updateTable('models')
    .set((row) => ({ latest_version: row('latest_version', '+', 1) }))
    .where('id', '=', modelId)
    .returning('latest_version')
    .executeTakeFirstOrThrow()
  const key = { modelId, number: counter.latest_version }
  const message = create(ModelVersionSchema, {
    ...content,
    name: versionName(key),
    createTime: timestampFromMicros(change.timeMicros),
    creator: change.actor,
    referenceDistributions: [],
  })
  const { referenceDistributions } = content
  await change.sql
    .insertInto('versions')
    .values({
      model_id: modelId,
      number: key.number,
      digest: content.digest,
      request_id: requestId,
      request_digest: requestDigest,
      message: toBinary(ModelVersionSchema, message),
      reference_distributions: toBinary(ModelVersionSchema, create(ModelVersionSchema, { referenceDistributions })),
      gate_state: GateState.PENDING,
      gate_report: null,
    })
    .execute()
  return await recordVersion(change, key)
}

function selectVersion(sql: Kysely<Schema>, key: VersionKey) {
  return sql.selectFrom('versions').selectAll().where('model_id', '=', key.modelId).where('number', '=', key.number)
}

async function findByRequest(
  sql: Kysely<Schema>,
  modelId: string,
  requestId: string,
  requestDigest: string,
): Promise<ModelVersion | undefined> {
  const row = await sql
    .selectFrom('versions')
    .selectAll()
    .where('model_id', '=', modelId)
    .where('request_id', '=', requestId)
    .executeTakeFirst()
  if (row === undefined) return undefined
  if (row.request_digest === requestDigest) return await toVersion(sql, row)
  const name = versionName({ modelId, number: row.number })
  const message = `the request id ${requestId} made ${name} from another request: choose a new one`
  throw new Failure(Code.ALREADY_EXISTS, 'REQUEST_ID_REUSED', message, { metadata: { name } })
}

async function toVersion(sql: Kysely<Schema>, row: Selectable<Schema['versions']>): Promise<ModelVersion> {
  const aliases = await sql
    .selectFrom('aliases')
    .select('alias')
    .where('model_id', '=', row.model_id)
    .where('number', '=', row.number)
    .execute()
  const { referenceDistributions } = fromBinary(ModelVersionSchema, row.reference_distributions)
  return { ...withState(row, aliases), referenceDistributions }
}

function withState(
  row: Pick<Selectable<Schema['versions']>, 'message' | 'gate_state' | 'gate_report'>,
  aliases: readonly { readonly alias: string }[],
): ModelVersion {
  const version = fromBinary(ModelVersionSchema, row.message)
  version.gateState = row.gate_state as GateState
  if (row.gate_report !== null) version.gateReport = fromBinary(GateReportSchema, row.gate_report)
  version.aliases = aliases.map(({ alias }) => alias).sort()
  return version
}

function versionNotFound(name: string): Failure {
  return new Failure(Code.NOT_FOUND, 'VERSION_NOT_FOUND', `there is no version ${name}`, { metadata: { name } })
}

function invalidVersion(violations: readonly FieldViolation[]): Failure {
  const shown = violations.slice(0, 5).map(({ field, description }) => `${field} ${description}`)
  const message = `${shown.join('; ')}${violations.length > 5 ? `; and ${violations.length - 5} more` : ''}`
  return new Failure(Code.INVALID_ARGUMENT, 'INVALID_VERSION', message, { violations })
}
