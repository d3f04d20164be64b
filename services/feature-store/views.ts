/**
 * Entities and feature views: kept in the database, held in memory. A view grows: its ttl may change and features may be
 * added at its end; each such change is a version with a digest of its own, and old versions stay.
 */
import { clone, create, fromBinary, toBinary } from '@bufbuild/protobuf'
import {
  type Entity,
  EntitySchema,
  type FeatureView,
  FeatureViewSchema,
} from '@slipway/proto/slipway/features/v1/feature_view'
import { ValueType } from '@slipway/proto/slipway/features/v1/value'
import { microsFromDuration, timestampFromMicros } from '@slipway/resources'
import { Failure } from '@slipway/rpc'
import { type Kysely, sql, type Transaction } from 'kysely'
import { etagOf, viewDigest } from './digests.ts'
import { checkEtag, inUse, notFound, sameOrTaken, unchangeable } from './refusals.ts'
import type { Schema } from './schema.ts'
import type { Clock } from './time.ts'
import type { TypedColumn, ViewVersion } from './view.ts'

/** A version of a view as it was declared and as it is used. */
export interface DeclaredView {
  readonly message: FeatureView
  readonly version: ViewVersion
}

/** Entities and views. */
export class Views {
  readonly #database: Kysely<Schema>
  readonly #clock: Clock
  readonly #entities = new Map<string, Entity>()
  /** By view id: the newest version and all by digest. */
  readonly #views = new Map<string, { newest: DeclaredView; byDigest: Map<string, DeclaredView> }>()

  constructor(options: { readonly database: Kysely<Schema>; readonly clock: Clock }) {
    this.#database = options.database
    this.#clock = options.clock
  }

  /** Reads what earlier processes created. */
  async load(): Promise<void> {
    for (const { definition } of await this.#database.selectFrom('entities').selectAll().execute()) {
      const entity = fromBinary(EntitySchema, definition)
      this.#entities.set(entity.name, entity)
    }
    const rows = await this.#database
      .selectFrom('feature_view_versions as v')
      .innerJoin('feature_views as w', 'w.name', 'v.name')
      .select(['v.definition', 'w.table_id', 'w.digest as newest', 'v.digest'])
      .execute()
    for (const row of rows) {
      const message = fromBinary(FeatureViewSchema, row.definition)
      this.#hold({ message, version: this.#versionOf(message, Number(row.table_id)) }, row.digest === row.newest)
    }
  }

  async createEntity(entity: Entity): Promise<Entity> {
    if (entity.type === ValueType.DOUBLE) throw Failure.invalid('entity.type', 'a double cannot be a key')
    const known = this.#entities.get(entity.name)
    if (known !== undefined) {
      return sameOrTaken(known, known.joinKey === entity.joinKey && known.type === entity.type, entity.name)
    }
    const now = this.#clock()
    const created = create(EntitySchema, {
      ...entity,
      createTime: timestampFromMicros(now),
      etag: etagOf(entity.name, String(now)),
    })
    const definition = toBinary(EntitySchema, created)
    await this.#database.insertInto('entities').values({ name: created.name, definition }).execute()
    this.#entities.set(created.name, created)
    return created
  }

  getEntity(name: string): Entity {
    return this.#entities.get(name) ?? notFound(name)
  }

  async deleteEntity(name: string, etag: string): Promise<Entity> {
    const entity = this.getEntity(name)
    checkEtag(name, entity.etag, etag)
    const user = this.list().find((view) => view.entities.includes(name))
    if (user !== undefined) throw inUse(name, user.name)
    await this.#database.deleteFrom('entities').where('name', '=', name).execute()
    this.#entities.delete(name)
    return entity
  }

  entities(): Entity[] {
    return [...this.#entities.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  async create(message: FeatureView): Promise<FeatureView> {
    const id = idOf(message.name)
    const known = this.#views.get(id)
    const wanted = this.#versionOf(message, known?.newest.version.tableId ?? 0)
    if (known !== undefined) {
      return sameOrTaken(known.newest.message, known.newest.version.digest === wanted.digest, message.name)
    }
    const now = timestampFromMicros(this.#clock())
    const tableId = await this.#nextTableId()
    return await this.#keep({ ...message, createTime: now }, tableId)
  }

  /** Gives the version of a digest, the newest when there is none. */
  get(name: string, digest = ''): DeclaredView {
    const view = this.#views.get(idOf(name))
    const found = digest === '' ? view?.newest : view?.byDigest.get(digest)
    return found ?? notFound(digest === '' ? name : `${name} of digest ${digest}`)
  }

  /** The newest version of a view by its id. */
  newest(id: string): ViewVersion | undefined {
    return this.#views.get(id)?.newest.version
  }

  /** The newest versions of all views. */
  versions(): ViewVersion[] {
    return [...this.#views.values()].map(({ newest }) => newest.version)
  }

  list(): FeatureView[] {
    return [...this.#views.values()].map(({ newest }) => newest.message).sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  async update(message: FeatureView, paths: readonly string[]): Promise<FeatureView> {
    const { message: before, version } = this.get(message.name)
    checkEtag(message.name, before.etag, message.etag)
    const fields = paths.length === 0 ? ['description', 'ttl', 'features'] : paths
    const after = clone(FeatureViewSchema, before)
    for (const path of fields) {
      if (path === 'description') after.description = message.description
      else if (path === 'features') after.features = message.features
      else if (path === 'ttl') {
        if (message.ttl === undefined) delete after.ttl
        else after.ttl = message.ttl
      } else throw Failure.invalid('update_mask', `${path} does not change; description, ttl and features do`)
    }
    const grown = before.features.every(({ name, type }, place) => {
      return after.features[place]?.name === name && after.features[place]?.type === type
    })
    if (!grown) throw unchangeable(message.name, 'features are added at the end only')
    return await this.#keep(after, version.tableId)
  }

  /** Removes a view; its rows are the caller's to drop. */
  async remove(name: string, etag: string): Promise<DeclaredView> {
    const view = this.get(name)
    checkEtag(name, view.message.etag, etag)
    await this.#database.transaction().execute(async (transaction) => {
      await transaction.deleteFrom('feature_views').where('name', '=', name).execute()
      await transaction.deleteFrom('feature_view_versions').where('name', '=', name).execute()
    })
    this.#views.delete(view.version.id)
    return view
  }

  async #keep(init: FeatureView, tableId: number): Promise<FeatureView> {
    const version = this.#versionOf(init, tableId)
    const now = this.#clock()
    const message = create(FeatureViewSchema, {
      ...init,
      digest: version.digest,
      updateTime: timestampFromMicros(now),
      etag: etagOf(init.name, version.digest, String(now)),
    })
    const definition = toBinary(FeatureViewSchema, message)
    const { name } = message
    const { digest } = version
    await this.#database.transaction().execute(async (transaction: Transaction<Schema>) => {
      await transaction
        .insertInto('feature_views')
        .values({ name, table_id: tableId, digest })
        .onConflict((conflict) => conflict.column('name').doUpdateSet({ digest }))
        .execute()
      await transaction
        .insertInto('feature_view_versions')
        .values({ name, digest, definition })
        .onConflict((conflict) => conflict.columns(['name', 'digest']).doUpdateSet({ definition }))
        .execute()
    })
    this.#hold({ message, version }, true)
    return message
  }

  async #nextTableId(): Promise<number> {
    const inserted = await sql<{ id: number }>`insert into table_ids default values returning id`.execute(
      this.#database,
    )
    return Number(inserted.rows[0]?.id)
  }

  #hold(view: DeclaredView, isNewest: boolean): void {
    const held = this.#views.get(view.version.id)
    const byDigest = held?.byDigest ?? new Map<string, DeclaredView>()
    byDigest.set(view.version.digest, view)
    this.#views.set(view.version.id, { newest: isNewest || held === undefined ? view : held.newest, byDigest })
  }

  #versionOf(message: FeatureView, tableId: number): ViewVersion {
    const keys: TypedColumn[] = message.entities.map((name, place) => {
      const entity = this.#entities.get(name)
      if (entity === undefined) throw Failure.invalid(`feature_view.entities[${place}]`, `there is no ${name}`)
      return { name: entity.joinKey, type: entity.type }
    })
    const names = [...keys, ...message.features].map(({ name }) => name)
    const repeated = names.find((name, place) => names.indexOf(name) < place)
    if (repeated !== undefined) throw Failure.invalid('feature_view.features', `${repeated} is named twice`)
    const features = message.features.map(({ name, type }) => ({ name, type }))
    const ttl = ttlMicrosOf(message)
    const view = { id: idOf(message.name), keys, features, ttlMicros: ttl === 0n ? undefined : ttl }
    return { ...view, tableId, digest: viewDigest(view) }
  }
}

function ttlMicrosOf({ ttl }: FeatureView): bigint {
  if (ttl === undefined) return 0n
  const micros = microsFromDuration(ttl)
  if (micros < 0n || (micros === 0n && ttl.nanos > 0)) {
    throw Failure.invalid('feature_view.ttl', 'is at least one microsecond, or 0 for any age')
  }
  return micros
}

/** A view's id from its resource name. */
export function idOf(name: string): string {
  return name.slice(name.indexOf('/') + 1)
}
