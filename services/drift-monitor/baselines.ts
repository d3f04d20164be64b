/**
 * The versions behind the digests in the log. What the registry said is kept in the monitor's own database, so counting
 * goes on without the registry once a version has been seen; before that, counting waits for it.
 */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { type ModelVersion, ModelVersionSchema } from '@slipway/proto/slipway/registry/v1/model'
import { Code, Failure } from '@slipway/rpc'
import type { Kysely } from 'kysely'
import { type Baseline, baselineOf, unknownBaseline } from './baseline.ts'
import type { Schema } from './schema.ts'

/** Asks the registry for the version of a digest. */
export type FetchVersion = (digest: string) => Promise<ModelVersion>

/** Baselines by digest. */
export class Baselines {
  readonly #database: Kysely<Schema>
  readonly #fetch: FetchVersion
  readonly #capacity: number
  readonly #known = new Map<string, Baseline>()

  constructor(options: { database: Kysely<Schema>; fetch: FetchVersion; capacity: number }) {
    this.#database = options.database
    this.#fetch = options.fetch
    this.#capacity = options.capacity
  }

  /**
   * The baseline of a digest. One that the registry does not know has a problem instead of columns. Throws when the
   * registry cannot be asked: the caller tries again later.
   */
  async get(digest: string, modelVersion: string): Promise<Baseline> {
    const known = this.#known.get(digest)
    if (known !== undefined) return known
    const baseline = (await this.#stored(digest, modelVersion)) ?? (await this.#fetched(digest, modelVersion))
    this.#known.set(digest, baseline)
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= this.#capacity) break
      this.#known.delete(oldest)
    }
    return baseline
  }

  async #stored(digest: string, modelVersion: string): Promise<Baseline | undefined> {
    const query = this.#database.selectFrom('baselines').select(['message', 'problem']).where('digest', '=', digest)
    const row = await query.executeTakeFirst()
    if (row === undefined) return undefined
    if (row.problem !== '') return unknownBaseline(digest, modelVersion, row.problem)
    return baselineOf(fromBinary(ModelVersionSchema, row.message))
  }

  async #fetched(digest: string, modelVersion: string): Promise<Baseline> {
    const found = await this.#ask(digest)
    const problem = typeof found === 'string' ? found : ''
    const { name, features, outputs, referenceDistributions, lineage } =
      typeof found === 'string' ? create(ModelVersionSchema, { name: modelVersion }) : found
    const kept = create(ModelVersionSchema, { name, digest, features, outputs, referenceDistributions })
    if (lineage !== undefined) kept.lineage = lineage
    await this.#database
      .insertInto('baselines')
      .values({ digest, message: toBinary(ModelVersionSchema, kept), problem })
      .onConflict((conflict) => conflict.column('digest').doNothing())
      .execute()
    return problem === '' ? baselineOf(kept) : unknownBaseline(digest, modelVersion, problem)
  }

  async #ask(digest: string): Promise<ModelVersion | string> {
    try {
      return await this.#fetch(digest)
    } catch (error) {
      const { code, message } = Failure.from(error)
      const isFinal = code === Code.NOT_FOUND || code === Code.INVALID_ARGUMENT
      if (!isFinal) throw error
      return `the registry does not know ${digest}: ${message}`
    }
  }
}
