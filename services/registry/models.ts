import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { type Gate, type Model, ModelSchema } from '@slipway/proto/slipway/registry/v1/model'
import { page, pageSizeOf, parsePageToken, timestampFromMicros } from '@slipway/resources'
import { Code, Failure } from '@slipway/rpc'
import type { Kysely, Selectable } from 'kysely'
import type { Change, Ledger } from './ledger.ts'
import { modelName, parseModelName } from './names.ts'
import type { Schema } from './schema.ts'

const updatable = ['description', 'labels', 'gate'] as const

/** Checks a gate against what is uploaded; throws INVALID_ARGUMENT with every problem. */
export type CheckGate = (gate: Gate, field: string) => Promise<void>

/** Creates, reads and changes models. */
export class Models {
  readonly #ledger: Ledger
  readonly #checkGate: CheckGate

  constructor(options: { readonly ledger: Ledger; readonly checkGate: CheckGate }) {
    this.#ledger = options.ledger
    this.#checkGate = options.checkGate
  }

  async create(wanted: Model, requestId: string, actor: string): Promise<Model> {
    const modelId = parseModelName(wanted.name, 'model.name')
    if (wanted.gate) await this.#checkGate(wanted.gate, 'model.gate')
    return await this.#ledger.change(actor, async (change) => {
      const taken = await selectModel(change.sql, modelId).executeTakeFirst()
      if (taken !== undefined) {
        if (requestId !== '' && requestId === taken.request_id) return toModel(taken)
        const name = modelName(modelId)
        throw new Failure(Code.ALREADY_EXISTS, 'MODEL_EXISTS', `${name} exists already`, { metadata: { name } })
      }
      const { description, labels, gate } = wanted
      const createTime = timestampFromMicros(change.timeMicros)
      const content = { name: modelName(modelId), description, labels, createTime, updateTime: createTime }
      const message = toBinary(ModelSchema, create(ModelSchema, { ...content, ...(gate && { gate }) }))
      await change.sql
        .insertInto('models')
        .values({ id: modelId, message, revision: change.revision, latest_version: 0, request_id: requestId })
        .execute()
      return await recordModel(change, modelId)
    })
  }

  async get(name: string): Promise<Model> {
    return await requireModel(this.#ledger.database, parseModelName(name, 'name'))
  }

  async list(pageSize: number, token: string): Promise<{ models: Model[]; nextPageToken: string }> {
    const size = pageSizeOf(pageSize)
    const after = parsePageToken('models', token, '')
    const rows = await this.#ledger.database
      .selectFrom('models')
      .selectAll()
      .$if(after !== undefined, (query) => query.where('id', '>', after ?? ''))
      .orderBy('id')
      .limit(size + 1)
      .execute()
    const { items, nextPageToken } = page(
      'models',
      rows,
      size,
      (row) => row.id,
      (row) => row.message.length,
    )
    return { models: items.map(toModel), nextPageToken }
  }

  async update(wanted: Model, paths: readonly string[], actor: string): Promise<Model> {
    const modelId = parseModelName(wanted.name, 'model.name')
    const unknown = paths.filter((path) => !updatable.some((known) => known === path))
    if (unknown.length > 0) {
      throw Failure.invalid('update_mask', `${unknown.join(', ')} cannot be changed; ${updatable.join(', ')} can`)
    }
    const changes = (path: (typeof updatable)[number]) => paths.length === 0 || paths.includes(path)
    if (changes('gate') && wanted.gate) await this.#checkGate(wanted.gate, 'model.gate')
    return await this.#ledger.change(actor, async (change) => {
      const current = await requireModel(change.sql, modelId)
      if (wanted.etag !== '' && wanted.etag !== current.etag) throw staleEtag(current.name, current.etag)
      const { gate: currentGate, ...rest } = current
      const gate = changes('gate') ? wanted.gate : currentGate
      const next = create(ModelSchema, {
        ...rest,
        ...(changes('description') && { description: wanted.description }),
        ...(changes('labels') && { labels: wanted.labels }),
        ...(gate && { gate }),
        updateTime: timestampFromMicros(change.timeMicros),
        etag: '',
        latestVersion: 0n,
      })
      await change.sql
        .updateTable('models')
        .set({ message: toBinary(ModelSchema, next), revision: change.revision })
        .where('id', '=', modelId)
        .execute()
      return await recordModel(change, modelId)
    })
  }
}

/** Reads a model; NOT_FOUND when there is none. */
export async function requireModel(sql: Kysely<Schema>, modelId: string): Promise<Model> {
  const row = await selectModel(sql, modelId).executeTakeFirst()
  if (row !== undefined) return toModel(row)
  const name = modelName(modelId)
  throw new Failure(Code.NOT_FOUND, 'MODEL_NOT_FOUND', `there is no ${name}`, { metadata: { name } })
}

/** ABORTED: somebody changed the resource since the caller read it. */
export function staleEtag(name: string, currentEtag: string): Failure {
  const message = `${name} has changed since you read it: read it again and decide anew`
  return new Failure(Code.ABORTED, 'STALE_ETAG', message, { metadata: { name, currentEtag } })
}

function selectModel(sql: Kysely<Schema>, modelId: string) {
  return sql.selectFrom('models').selectAll().where('id', '=', modelId)
}

async function recordModel(change: Change, modelId: string): Promise<Model> {
  const model = await requireModel(change.sql, modelId)
  await change.record(modelId, { case: 'model', value: model })
  return model
}

function toModel(row: Selectable<Schema['models']>): Model {
  const model = fromBinary(ModelSchema, row.message)
  model.latestVersion = BigInt(row.latest_version)
  model.etag = String(row.revision)
  return model
}
