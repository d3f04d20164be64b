/**
 * Aliases: names that move.
 *
 * 1. A move happens only from the state that the caller saw, named by the etag; of several movers from one state one wins.
 * 2. Every move stays in the history, with who, when and why; generations count from 1 without a gap.
 * 3. An alias moves only to a version whose newest gate report passed, or back to one that it pointed to before.
 */
import { create } from '@bufbuild/protobuf'
import { type Alias, AliasSchema, GateState } from '@slipway/proto/slipway/registry/v1/model'
import { page, pageSizeOf, parsePageToken, timestampFromMicros } from '@slipway/resources'
import { Code, Failure } from '@slipway/rpc'
import type { Kysely, Selectable } from 'kysely'
import type { Change, Ledger } from './ledger.ts'
import { requireModel, staleEtag } from './models.ts'
import { type AliasKey, aliasName, isReservedAlias, parseAliasName, parseVersionName, versionName } from './names.ts'
import type { Schema } from './schema.ts'
import { requireVersion } from './versions.ts'

type Move = Selectable<Schema['alias_moves']>

/** A wish to move an alias. */
export interface MoveRequest {
  readonly name: string
  readonly etag: string
  readonly reason: string
  /** The same id moves once; empty: every request counts for itself. */
  readonly requestId: string
}

/** Moves and reads aliases. */
export class Aliases {
  readonly #ledger: Ledger

  constructor(options: { readonly ledger: Ledger }) {
    this.#ledger = options.ledger
  }

  async set(request: MoveRequest & { readonly version: string }, actor: string): Promise<Alias> {
    const key = parseAliasName(request.name, 'name')
    const target = parseVersionName(request.version, 'version')
    if (isReservedAlias(key.alias)) throw Failure.invalid('name', `'${key.alias}' is reserved: choose another alias`)
    if (target.modelId !== key.modelId) throw Failure.invalid('version', 'must be a version of the same model')
    return await this.#ledger.change(actor, async (change) => {
      const repeated = await moveByRequest(change.sql, key, request.requestId)
      if (repeated !== undefined) return await toAlias(change.sql, repeated)
      const version = await requireVersion(change.sql, target)
      const current = await newestMove(change.sql, key)
      checkEtag(key, current, request.etag)
      if (version.gateState !== GateState.PASSED) throw notDeployable(version.name, version.gateState)
      return await move(change, key, current, { ...request, number: target.number })
    })
  }

  async rollback(request: MoveRequest, actor: string): Promise<Alias> {
    const key = parseAliasName(request.name, 'name')
    return await this.#ledger.change(actor, async (change) => {
      const repeated = await moveByRequest(change.sql, key, request.requestId)
      if (repeated !== undefined) return await toAlias(change.sql, repeated)
      const current = await requireMove(change.sql, key)
      checkEtag(key, current, request.etag)
      const before = await moveOf(change.sql, key, current.generation - 1)
      if (before === undefined || before.number === null) {
        const message = `${request.name} pointed to no version before its last move`
        throw new Failure(Code.FAILED_PRECONDITION, 'NO_VERSION_BEFORE', message, { metadata: { name: request.name } })
      }
      return await move(change, key, current, { ...request, number: before.number })
    })
  }

  async remove(request: Pick<MoveRequest, 'name' | 'etag'>, actor: string): Promise<Alias> {
    const key = parseAliasName(request.name, 'name')
    return await this.#ledger.change(actor, async (change) => {
      const current = await requireMove(change.sql, key)
      if (current.number === null) throw aliasNotFound(key)
      checkEtag(key, current, request.etag)
      return await move(change, key, current, { number: null, reason: 'removed', requestId: '' })
    })
  }

  async get(name: string): Promise<Alias> {
    const key = parseAliasName(name, 'name')
    const current = await newestMove(this.#ledger.database, key)
    if (current === undefined || current.number === null) throw aliasNotFound(key)
    return await toAlias(this.#ledger.database, current)
  }

  /** The alias as it was at a time, the moment of a move included. */
  async getAt(name: string, timeMicros: bigint): Promise<Alias> {
    const key = parseAliasName(name, 'name')
    const found = await moves(this.#ledger.database, key)
      .where('time_micros', '<=', clampMicros(timeMicros))
      .limit(1)
      .executeTakeFirst()
    if (found === undefined || found.number === null) throw aliasNotFound(key)
    return await toAlias(this.#ledger.database, found)
  }

  async history(name: string, pageSize: number, token: string): Promise<{ moves: Alias[]; nextPageToken: string }> {
    const key = parseAliasName(name, 'name')
    const size = pageSizeOf(pageSize)
    const before = parsePageToken(`${name}/moves`, token, 0)
    const rows = await moves(this.#ledger.database, key)
      .where('generation', '<', before ?? Number.MAX_SAFE_INTEGER)
      .limit(size + 1)
      .execute()
    if (rows.length === 0 && before === undefined) throw aliasNotFound(key)
    const { items, nextPageToken } = page(`${name}/moves`, rows, size, (row) => row.generation)
    return { moves: await Promise.all(items.map((row) => toAlias(this.#ledger.database, row))), nextPageToken }
  }
}

/** Number of the version that an alias points to, undefined when it points nowhere. */
export async function resolveAlias(sql: Kysely<Schema>, key: AliasKey): Promise<number | undefined> {
  const row = await sql
    .selectFrom('aliases')
    .select('number')
    .where('model_id', '=', key.modelId)
    .where('alias', '=', key.alias)
    .executeTakeFirst()
  return row?.number ?? undefined
}

/** NOT_FOUND for an alias. */
export function aliasNotFound(key: AliasKey): Failure {
  const name = aliasName(key)
  return new Failure(Code.NOT_FOUND, 'ALIAS_NOT_FOUND', `there is no ${name} (at that time)`, { metadata: { name } })
}

async function move(
  change: Change,
  key: AliasKey,
  current: Move | undefined,
  wanted: { readonly number: number | null; readonly reason: string; readonly requestId: string },
): Promise<Alias> {
  const { number, reason, requestId } = wanted
  const generation = (current?.generation ?? 0) + 1
  const { modelId: model_id, alias } = key
  const row = { model_id, alias, generation, number }
  const made = { ...row, time_micros: Number(change.timeMicros), actor: change.actor, reason, request_id: requestId }
  await change.sql.insertInto('alias_moves').values(made).execute()
  await change.sql
    .insertInto('aliases')
    .values(row)
    .onConflict((conflict) => conflict.columns(['model_id', 'alias']).doUpdateSet({ generation, number }))
    .execute()
  const moved = await toAlias(change.sql, made)
  await change.record(key.modelId, { case: 'alias', value: moved })
  return moved
}

function checkEtag(key: AliasKey, current: Move | undefined, etag: string): void {
  const exists = current !== undefined && current.number !== null
  if (etag === '' && !exists) return
  const currentEtag = current === undefined ? '' : etagOf(current)
  if (etag !== currentEtag) throw staleEtag(aliasName(key), currentEtag)
}

function moves(sql: Kysely<Schema>, key: AliasKey) {
  return sql
    .selectFrom('alias_moves')
    .selectAll()
    .where('model_id', '=', key.modelId)
    .where('alias', '=', key.alias)
    .orderBy('generation', 'desc')
}

async function newestMove(sql: Kysely<Schema>, key: AliasKey): Promise<Move | undefined> {
  const newest = await moves(sql, key).limit(1).executeTakeFirst()
  if (newest === undefined) await requireModel(sql, key.modelId)
  return newest
}

async function requireMove(sql: Kysely<Schema>, key: AliasKey): Promise<Move> {
  const newest = await newestMove(sql, key)
  if (newest === undefined) throw aliasNotFound(key)
  return newest
}

async function moveByRequest(sql: Kysely<Schema>, key: AliasKey, requestId: string): Promise<Move | undefined> {
  return requestId === '' ? undefined : await moves(sql, key).where('request_id', '=', requestId).executeTakeFirst()
}

async function moveOf(sql: Kysely<Schema>, key: AliasKey, generation: number): Promise<Move | undefined> {
  return await moves(sql, key).where('generation', '=', generation).executeTakeFirst()
}

async function toAlias(sql: Kysely<Schema>, row: Move): Promise<Alias> {
  const key = { modelId: row.model_id, alias: row.alias }
  const version =
    row.number === null
      ? undefined
      : await sql
          .selectFrom('versions')
          .select('digest')
          .where('model_id', '=', row.model_id)
          .where('number', '=', row.number)
          .executeTakeFirstOrThrow()
  return create(AliasSchema, {
    name: aliasName(key),
    version: row.number === null ? '' : versionName({ modelId: row.model_id, number: row.number }),
    digest: version?.digest ?? '',
    generation: BigInt(row.generation),
    etag: etagOf(row),
    updateTime: timestampFromMicros(BigInt(row.time_micros)),
    actor: row.actor,
    reason: row.reason,
  })
}

function etagOf(row: Move): string {
  return `g${row.generation}`
}

function notDeployable(name: string, state: GateState): Failure {
  const why = state === GateState.FAILED ? 'failed' : 'has not passed'
  const message = `${name} ${why} its gate: run the gate and point the alias to a version that passed`
  const metadata = { name, gateState: state === GateState.FAILED ? 'FAILED' : 'PENDING' }
  return new Failure(Code.FAILED_PRECONDITION, 'GATE_NOT_PASSED', message, { metadata })
}

function clampMicros(micros: bigint): number {
  return Number(micros > BigInt(Number.MAX_SAFE_INTEGER) ? BigInt(Number.MAX_SAFE_INTEGER) : micros)
}
