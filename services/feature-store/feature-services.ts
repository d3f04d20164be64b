/** Feature services: ordered features of pinned view versions, each version named by its digest. */
import { clone, create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { type FeatureService, FeatureServiceSchema } from '@slipway/proto/slipway/features/v1/feature_view'
import type { ValueType } from '@slipway/proto/slipway/features/v1/value'
import { timestampFromMicros } from '@slipway/resources'
import { Code, Failure } from '@slipway/rpc'
import type { Kysely } from 'kysely'
import { etagOf, serviceDigest } from './digests.ts'
import { checkEtag, notFound, sameOrTaken } from './refusals.ts'
import type { Schema } from './schema.ts'
import type { Clock } from './time.ts'
import type { ViewVersion } from './view.ts'
import type { Views } from './views.ts'

/** One column of an answer. */
export interface FeatureColumn {
  /** `{view}:{feature}`. */
  readonly reference: string
  readonly view: ViewVersion
  /** Place of the feature in its view. */
  readonly index: number
  readonly name: string
  readonly type: ValueType
}

/** A column with its name in a training set. */
export interface ServiceColumn extends FeatureColumn {
  /** The feature's name; `{view}__{feature}` where two views have a feature of that name. */
  readonly column: string
}

/** A version of a feature service with its columns resolved. */
export interface ResolvedService {
  readonly message: FeatureService
  readonly columns: readonly ServiceColumn[]
}

/** All feature services. */
export class FeatureServices {
  readonly #database: Kysely<Schema>
  readonly #views: Views
  readonly #clock: Clock
  readonly #services = new Map<string, { newest: ResolvedService; byDigest: Map<string, ResolvedService> }>()

  constructor(options: { readonly database: Kysely<Schema>; readonly views: Views; readonly clock: Clock }) {
    this.#database = options.database
    this.#views = options.views
    this.#clock = options.clock
  }

  /** Reads what earlier processes created; the views are loaded. */
  async load(): Promise<void> {
    const rows = await this.#database
      .selectFrom('feature_service_versions as v')
      .innerJoin('feature_services as s', 's.name', 'v.name')
      .select(['v.definition', 'v.digest', 's.digest as newest'])
      .execute()
    for (const row of rows) this.#hold(fromBinary(FeatureServiceSchema, row.definition), row.digest === row.newest)
  }

  async create(message: FeatureService): Promise<FeatureService> {
    const known = this.#services.get(message.name)?.newest.message
    if (known !== undefined) return sameOrTaken(known, same(known.features, message.features), message.name)
    return await this.#keep(create(FeatureServiceSchema, { ...message, createTime: this.#now() }))
  }

  /** Gives the version of a digest, the newest when there is none. */
  get(name: string, digest = ''): ResolvedService {
    const service = this.#services.get(name) ?? notFound(name)
    if (digest === '') return service.newest
    const found = service.byDigest.get(digest)
    if (found !== undefined) return found
    const message = `${name} has no version ${digest}: the caller was built for another feature service`
    throw new Failure(Code.FAILED_PRECONDITION, 'FEATURE_SERVICE_MISMATCH', message, { metadata: { name, digest } })
  }

  list(): FeatureService[] {
    return [...this.#services.values()].map(({ newest }) => newest.message).sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  async update(message: FeatureService, paths: readonly string[]): Promise<FeatureService> {
    const before = this.get(message.name).message
    checkEtag(message.name, before.etag, message.etag)
    const after = clone(FeatureServiceSchema, before)
    for (const path of paths.length === 0 ? ['description', 'features'] : paths) {
      if (path === 'description') after.description = message.description
      else if (path === 'features') after.features = message.features
      else throw Failure.invalid('update_mask', `${path} does not change; description and features do`)
    }
    return await this.#keep(after)
  }

  async remove(name: string, etag: string): Promise<FeatureService> {
    const { message } = this.get(name)
    checkEtag(name, message.etag, etag)
    await this.#database.transaction().execute(async (transaction) => {
      await transaction.deleteFrom('feature_services').where('name', '=', name).execute()
      await transaction.deleteFrom('feature_service_versions').where('name', '=', name).execute()
    })
    this.#services.delete(name)
    return message
  }

  /** The name of a feature service that has a view in any of its versions, if any. */
  userOf(viewId: string): string | undefined {
    const uses = ({ message }: ResolvedService) => Object.hasOwn(message.viewDigests, viewId)
    return [...this.#services].find(([, { byDigest }]) => [...byDigest.values()].some(uses))?.[0]
  }

  /** Resolves references against the newest views; INVALID_ARGUMENT names the place of one that does not exist. */
  resolve(references: readonly string[], field: string): FeatureColumn[] {
    return references.map((reference, place) => {
      const view = this.#views.newest(reference.split(':')[0] ?? '')
      const column = view && columnOf(reference, view)
      if (column === undefined) throw Failure.invalid(`${field}[${place}]`, `there is no feature ${reference}`)
      return column
    })
  }

  async #keep(init: FeatureService): Promise<FeatureService> {
    const columns = withColumnNames(this.resolve(init.features, 'feature_service.features'))
    checkColumnNames(columns)
    const viewDigests = Object.fromEntries(columns.map(({ view }) => [view.id, view.digest]))
    const digest = serviceDigest(init.features, viewDigests)
    const etag = etagOf(init.name, digest, String(this.#clock()))
    const message = create(FeatureServiceSchema, { ...init, viewDigests, digest, updateTime: this.#now(), etag })
    const definition = toBinary(FeatureServiceSchema, message)
    const { name } = message
    await this.#database.transaction().execute(async (transaction) => {
      await transaction
        .insertInto('feature_services')
        .values({ name, digest })
        .onConflict((conflict) => conflict.column('name').doUpdateSet({ digest }))
        .execute()
      await transaction
        .insertInto('feature_service_versions')
        .values({ name, digest, definition })
        .onConflict((conflict) => conflict.columns(['name', 'digest']).doUpdateSet({ definition }))
        .execute()
    })
    this.#hold(message, true)
    return message
  }

  #hold(message: FeatureService, isNewest: boolean): void {
    const columns = message.features.map((reference) => {
      const viewId = reference.split(':')[0] ?? ''
      const { version } = this.#views.get(`featureViews/${viewId}`, message.viewDigests[viewId])
      return columnOf(reference, version) ?? notFound(reference)
    })
    const held = this.#services.get(message.name)
    const byDigest = held?.byDigest ?? new Map<string, ResolvedService>()
    const resolved = { message, columns: withColumnNames(columns) }
    byDigest.set(message.digest, resolved)
    this.#services.set(message.name, { newest: isNewest || held === undefined ? resolved : held.newest, byDigest })
  }

  #now() {
    return timestampFromMicros(this.#clock())
  }
}

function columnOf(reference: string, view: ViewVersion): FeatureColumn | undefined {
  const name = reference.slice(reference.indexOf(':') + 1)
  const index = view.features.findIndex((feature) => feature.name === name)
  const feature = view.features[index]
  return feature && { reference, view, index, name, type: feature.type }
}

function withColumnNames(columns: readonly FeatureColumn[]): ServiceColumn[] {
  const counts = new Map<string, number>()
  for (const { name } of columns) counts.set(name, (counts.get(name) ?? 0) + 1)
  return columns.map((column) => {
    const { name, view } = column
    return { ...column, column: counts.get(name) === 1 ? name : `${view.id}__${name}` }
  })
}

/** A training set has three columns a feature: two of them must not have one name. */
function checkColumnNames(columns: readonly ServiceColumn[]): void {
  const seen = new Map<string, string>()
  for (const [place, { column, reference }] of columns.entries()) {
    for (const name of [column, `${column}__status`, `${column}__event_time`]) {
      const other = seen.get(name)
      if (other !== undefined) {
        const description = `${reference} and ${other} would both have a column ${name} in a training set`
        throw Failure.invalid(`feature_service.features[${place}]`, description)
      }
      seen.set(name, reference)
    }
  }
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((value, place) => value === b[place])
}
