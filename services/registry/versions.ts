/**
 * Immutable versions.
 *
 * 1. Numbers of a model's versions count from 1 without a gap: the counter moves in the transaction that makes the version.
 * 2. A request id makes one version, however often and from however many callers at once it is sent.
 * 3. Every file of a version was uploaded and checked before the version exists.
 */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { versionDigest } from '@slipway/models'
import {
  GateReportSchema,
  GateState,
  type ModelVersion,
  ModelVersionSchema,
} from '@slipway/proto/slipway/registry/v1/model'
import type {
  CreateVersionRequest,
  RecordServingProfileRequest,
} from '@slipway/proto/slipway/registry/v1/registry_service'
import { ServingProfileSchema } from '@slipway/proto/slipway/registry/v1/serving_profile'
import { page, pageSizeOf, parsePageToken, timestampFromMicros } from '@slipway/resources'
import { Code, Failure, type FieldViolation } from '@slipway/rpc'
import type { Kysely, Selectable } from 'kysely'
import type { Change, Ledger } from './ledger.ts'
import { requireModel } from './models.ts'
import { modelName, parseModelName, parseVersionName, type VersionKey, versionName } from './names.ts'
import type { Schema } from './schema.ts'
import type { SignatureOptions } from './signature.ts'
import { checkContent } from './version-content.ts'

/** What versions need. */
export interface VersionsOptions extends Omit<SignatureOptions, 'findVersion'> {
  readonly ledger: Ledger
}

/** Creates and reads versions. */
export class Versions {
  readonly #ledger: Ledger
  readonly #options: SignatureOptions

  constructor(options: VersionsOptions) {
    this.#ledger = options.ledger
    this.#options = { ...options, findVersion: (name) => this.#find(name) }
  }

  async create(request: CreateVersionRequest, actor: string): Promise<ModelVersion> {
    const modelId = parseModelName(request.parent, 'parent')
    const requestDigest = versionDigest({ ...request, signature: undefined })
    const repeated = await findByRequest(this.#ledger.database, modelId, request.requestId, requestDigest)
    if (repeated !== undefined) return repeated
    await requireModel(this.#ledger.database, modelId)
    const lineageProblems = await this.#checkParent(request.lineage?.parentVersion ?? '', modelId)
    const content = await checkContent(request, lineageProblems, this.#options)
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
    const size = pageSizeOf(pageSize)
    const before = parsePageToken(`${parent}/versions`, token, 0)
    await requireModel(sql, modelId)
    const rows = await sql
      .selectFrom('versions')
      .select(['model_id', 'number', 'message', 'gate_state', 'gate_report', 'serving_profile'])
      .where('model_id', '=', modelId)
      .where('number', '<', before ?? Number.MAX_SAFE_INTEGER)
      .orderBy('number', 'desc')
      .limit(size + 1)
      .execute()
    const { items, nextPageToken } = page(
      `${parent}/versions`,
      rows,
      size,
      (row) => row.number,
      (row) => row.message.length,
    )
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

  /** Stores how fast a version answers, in place of what was stored before. */
  async recordProfile({ name, digest, profile }: RecordServingProfileRequest, actor: string): Promise<ModelVersion> {
    const key = parseVersionName(name, 'name')
    const version = await this.get(key)
    if (version.digest !== digest) {
      const message = `${name} has digest ${version.digest}, not ${digest}: something else was profiled`
      throw new Failure(Code.FAILED_PRECONDITION, 'DIGEST_MISMATCH', message, { metadata: { digest: version.digest } })
    }
    const bytes = toBinary(ServingProfileSchema, create(ServingProfileSchema, profile))
    return await this.#ledger.change(actor, async (change) => {
      await change.sql
        .updateTable('versions')
        .set({ serving_profile: bytes })
        .where('model_id', '=', key.modelId)
        .where('number', '=', key.number)
        .execute()
      return await recordVersion(change, key)
    })
  }

  async #find(name: string): Promise<ModelVersion | undefined> {
    const sql = this.#ledger.database
    const row = await selectVersion(sql, parseVersionName(name, 'name')).executeTakeFirst()
    return row && (await toVersion(sql, row))
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
      serving_profile: null,
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
  row: Pick<Selectable<Schema['versions']>, 'message' | 'gate_state' | 'gate_report' | 'serving_profile'>,
  aliases: readonly { readonly alias: string }[],
): ModelVersion {
  const version = fromBinary(ModelVersionSchema, row.message)
  version.gateState = row.gate_state as GateState
  if (row.gate_report !== null) version.gateReport = fromBinary(GateReportSchema, row.gate_report)
  if (row.serving_profile !== null) version.servingProfile = fromBinary(ServingProfileSchema, row.serving_profile)
  version.aliases = aliases.map(({ alias }) => alias).sort()
  return version
}

function versionNotFound(name: string): Failure {
  return new Failure(Code.NOT_FOUND, 'VERSION_NOT_FOUND', `there is no version ${name}`, { metadata: { name } })
}
