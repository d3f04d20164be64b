/**
 * What the router must not forget, in SQLite: endpoints with the versions that answer for them, what the registry said
 * about those versions, and how far the registry's changes were followed. With it the router starts, predicts and takes
 * weight changes while the registry is away.
 *
 * 1. A write is one transaction: after a crash an endpoint is as it was before or as it is after.
 * 2. An endpoint changes only when its revision is the one that the caller saw.
 */
import { fromBinary, toBinary } from '@bufbuild/protobuf'
import { type ModelVersion, ModelVersionSchema } from '@slipway/proto/slipway/registry/v1/model'
import { type Endpoint, EndpointSchema } from '@slipway/proto/slipway/routing/v1/endpoint'
import { Code, Failure } from '@slipway/rpc'
import { type Migration, migrate, openSqlite } from '@slipway/storage'
import type { Kysely, Transaction } from 'kysely'

interface Tables {
  endpoint: { name: string; revision: number; request_id: string | null; message: Uint8Array }
  version: { name: string; message: Uint8Array }
  registry_position: { id: number; revision: number }
}

const migrations: readonly Migration[] = [
  {
    number: 1,
    name: 'endpoints, versions and the position in the registry',
    async up(transaction) {
      await transaction.schema
        .createTable('endpoint')
        .addColumn('name', 'text', (column) => column.primaryKey())
        .addColumn('revision', 'integer', (column) => column.notNull())
        .addColumn('request_id', 'text', (column) => column.unique())
        .addColumn('message', 'blob', (column) => column.notNull())
        .execute()
      await transaction.schema
        .createTable('version')
        .addColumn('name', 'text', (column) => column.primaryKey())
        .addColumn('message', 'blob', (column) => column.notNull())
        .execute()
      await transaction.schema
        .createTable('registry_position')
        .addColumn('id', 'integer', (column) => column.primaryKey())
        .addColumn('revision', 'integer', (column) => column.notNull())
        .execute()
    },
  },
]

/** Everything that was kept. */
export interface StoredState {
  readonly endpoints: readonly Endpoint[]
  readonly versions: readonly ModelVersion[]
}

/** Keeps endpoints and the versions that answer for them. */
export interface EndpointStore {
  /** Reads everything, at start, and forgets versions that no endpoint names. */
  load(): Promise<StoredState>
  /** Adds an endpoint with its versions. ALREADY_EXISTS when the name is taken. */
  insert(endpoint: Endpoint, versions: readonly ModelVersion[], requestId: string): Promise<void>
  /** Replaces an endpoint whose revision is still `seenRevision`, with its versions. ABORTED otherwise. */
  replace(endpoint: Endpoint, versions: readonly ModelVersion[], seenRevision: bigint): Promise<void>
  /** Removes an endpoint whose revision is still `seenRevision`. ABORTED otherwise. */
  remove(name: string, seenRevision: bigint): Promise<void>
  /** Name of the endpoint that a create request made, if it did. */
  createdBy(requestId: string): Promise<string | undefined>
  /** The newest registry revision that was followed; 0 at first. */
  registryRevision(): Promise<bigint>
  /** Notes how far the registry was followed. */
  setRegistryRevision(revision: bigint): Promise<void>
  /** Closes the file. */
  close(): Promise<void>
}

/** Opens the store in a SQLite file. */
export async function openEndpointStore(path: string): Promise<EndpointStore> {
  const database = openSqlite<Tables>({ path })
  await migrate(database, migrations)
  return new SqliteEndpointStore(database)
}

class SqliteEndpointStore implements EndpointStore {
  readonly #database: Kysely<Tables>

  constructor(database: Kysely<Tables>) {
    this.#database = database
  }

  async load(): Promise<StoredState> {
    const rows = await this.#database.selectFrom('endpoint').select('message').orderBy('name').execute()
    const endpoints = rows.map((row) => fromBinary(EndpointSchema, row.message))
    const named = new Set(endpoints.flatMap((each) => each.variants.map((variant) => variant.modelVersion)))
    const kept = await this.#database.selectFrom('version').selectAll().execute()
    const stray = kept.filter((row) => !named.has(row.name)).map((row) => row.name)
    if (stray.length > 0) await this.#database.deleteFrom('version').where('name', 'in', stray).execute()
    const versions = kept.filter((row) => named.has(row.name))
    return { endpoints, versions: versions.map((row) => fromBinary(ModelVersionSchema, row.message)) }
  }

  async insert(endpoint: Endpoint, versions: readonly ModelVersion[], requestId: string): Promise<void> {
    await this.#database.transaction().execute(async (transaction) => {
      const taken = await transaction.selectFrom('endpoint').select('name').where('name', '=', endpoint.name).execute()
      if (taken.length > 0) throw new Failure(Code.ALREADY_EXISTS, 'ENDPOINT_EXISTS', `${endpoint.name} exists already`)
      await transaction
        .insertInto('endpoint')
        .values({ ...row(endpoint), request_id: requestId === '' ? null : requestId })
        .execute()
      await keepVersions(transaction, versions)
    })
  }

  async replace(endpoint: Endpoint, versions: readonly ModelVersion[], seenRevision: bigint): Promise<void> {
    await this.#database.transaction().execute(async (transaction) => {
      const result = await transaction
        .updateTable('endpoint')
        .set(row(endpoint))
        .where('name', '=', endpoint.name)
        .where('revision', '=', Number(seenRevision))
        .executeTakeFirst()
      if (result.numUpdatedRows === 0n) throw staleFailure(endpoint.name)
      await keepVersions(transaction, versions)
    })
  }

  async remove(name: string, seenRevision: bigint): Promise<void> {
    const result = await this.#database
      .deleteFrom('endpoint')
      .where('name', '=', name)
      .where('revision', '=', Number(seenRevision))
      .executeTakeFirst()
    if (result.numDeletedRows === 0n) throw staleFailure(name)
  }

  async createdBy(requestId: string): Promise<string | undefined> {
    const query = this.#database.selectFrom('endpoint').select('name').where('request_id', '=', requestId)
    return (await query.executeTakeFirst())?.name
  }

  async registryRevision(): Promise<bigint> {
    const query = this.#database.selectFrom('registry_position').select('revision').where('id', '=', 1)
    return BigInt((await query.executeTakeFirst())?.revision ?? 0)
  }

  async setRegistryRevision(revision: bigint): Promise<void> {
    const position = { id: 1, revision: Number(revision) }
    await this.#database
      .insertInto('registry_position')
      .values(position)
      .onConflict((conflict) => conflict.column('id').doUpdateSet({ revision: position.revision }))
      .execute()
  }

  async close(): Promise<void> {
    await this.#database.destroy()
  }
}

/** The failure of a change to an endpoint that was changed by somebody else meanwhile. */
export function staleFailure(name: string): Failure {
  return new Failure(Code.ABORTED, 'STALE_ETAG', `${name} was changed meanwhile: read it again`, {
    metadata: { endpoint: name },
  })
}

function row(endpoint: Endpoint): { name: string; revision: number; message: Uint8Array } {
  return { name: endpoint.name, revision: Number(endpoint.revision), message: toBinary(EndpointSchema, endpoint) }
}

async function keepVersions(transaction: Transaction<Tables>, versions: readonly ModelVersion[]): Promise<void> {
  for (const version of versions) {
    const values = { name: version.name, message: toBinary(ModelVersionSchema, version) }
    await transaction
      .insertInto('version')
      .values(values)
      .onConflict((conflict) => conflict.column('name').doUpdateSet({ message: values.message }))
      .execute()
  }
}
