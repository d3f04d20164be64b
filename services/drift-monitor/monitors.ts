/** Monitors as they are kept: create, read, list, change, delete. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import type { FieldMask } from '@bufbuild/protobuf/wkt'
import {
  type Monitor,
  type MonitorPolicy,
  MonitorPolicySchema,
  MonitorSchema,
} from '@slipway/proto/slipway/drift/v1/monitor'
import { timestampFromMicros } from '@slipway/resources'
import { Code, Failure } from '@slipway/rpc'
import type { Kysely, Selectable } from 'kysely'
import { limits } from './limits.ts'
import { completePolicy } from './policy.ts'
import type { Schema } from './schema.ts'

/** Monitors over their table. */
export class Monitors {
  readonly #database: Kysely<Schema>
  readonly #nowMicros: () => bigint

  constructor(options: { database: Kysely<Schema>; nowMicros: () => bigint }) {
    this.#database = options.database
    this.#nowMicros = options.nowMicros
  }

  /** Creates a monitor; ALREADY_EXISTS when the name or the endpoint is taken. */
  async create(wanted: Monitor): Promise<Monitor> {
    const time = timestampFromMicros(this.#nowMicros())
    const { name, endpoint } = wanted
    const policy = completePolicy(wanted.policy)
    const monitor = create(MonitorSchema, { name, endpoint, policy, createTime: time, updateTime: time })
    return await this.#database.transaction().execute(async (transaction) => {
      const taken = await transaction
        .selectFrom('monitors')
        .select('monitor')
        .where((where) => where.or([where('monitor', '=', name), where('endpoint', '=', endpoint)]))
        .executeTakeFirst()
      if (taken !== undefined) throw alreadyExists(taken.monitor, endpoint)
      const { count } = await transaction
        .selectFrom('monitors')
        .select(({ fn }) => fn.countAll<number>().as('count'))
        .executeTakeFirstOrThrow()
      if (count >= limits.monitors) {
        throw new Failure(Code.RESOURCE_EXHAUSTED, 'TOO_MANY_MONITORS', `there are ${count} monitors already`)
      }
      await transaction
        .insertInto('monitors')
        .values({
          monitor: name,
          endpoint,
          revision: 1,
          message: toBinary(MonitorSchema, monitor),
          predictions: 0,
          too_late: 0,
          labels_received: 0,
          labels_joined: 0,
          batches: 0,
        })
        .execute()
      return { ...monitor, etag: '1' }
    })
  }

  /** Reads a monitor; NOT_FOUND when there is none of that name. */
  async get(name: string): Promise<Monitor> {
    return monitorOf(await this.row(name))
  }

  /** A monitor's row. */
  async row(name: string): Promise<Selectable<Schema['monitors']>> {
    const query = this.#database.selectFrom('monitors').selectAll().where('monitor', '=', name)
    const row = await query.executeTakeFirst()
    if (row === undefined) throw notFound(name)
    return row
  }

  /** Monitors behind `after` by name, at most `limit`. */
  async list(after: string, limit: number): Promise<Monitor[]> {
    const query = this.#database.selectFrom('monitors').selectAll().where('monitor', '>', after)
    return (await query.orderBy('monitor').limit(limit).execute()).map(monitorOf)
  }

  /** The monitor of an endpoint, if there is one. */
  async ofEndpoint(endpoint: string): Promise<Monitor | undefined> {
    const query = this.#database.selectFrom('monitors').selectAll().where('endpoint', '=', endpoint)
    const row = await query.executeTakeFirst()
    return row === undefined ? undefined : monitorOf(row)
  }

  /** Changes the policy; ABORTED when the etag is stale. */
  async update(wanted: Monitor, mask: FieldMask | undefined): Promise<Monitor> {
    return await this.#database.transaction().execute(async (transaction) => {
      const query = transaction.selectFrom('monitors').selectAll().where('monitor', '=', wanted.name)
      const row = await query.executeTakeFirst()
      if (row === undefined) throw notFound(wanted.name)
      checkEtag(wanted.etag, row.revision)
      const monitor = monitorOf(row)
      monitor.policy = completePolicy(maskedPolicy(monitor.policy, wanted.policy, mask?.paths ?? []))
      monitor.updateTime = timestampFromMicros(this.#nowMicros())
      const revision = row.revision + 1
      await transaction
        .updateTable('monitors')
        .set({ revision, message: toBinary(MonitorSchema, { ...monitor, etag: '' }) })
        .where('monitor', '=', wanted.name)
        .execute()
      return { ...monitor, etag: String(revision) }
    })
  }

  /** Removes a monitor with everything that was counted; ABORTED when the etag is stale. */
  async delete(name: string, etag: string): Promise<void> {
    await this.#database.transaction().execute(async (transaction) => {
      const query = transaction.selectFrom('monitors').select('revision').where('monitor', '=', name)
      const row = await query.executeTakeFirst()
      if (row === undefined) throw notFound(name)
      checkEtag(etag, row.revision)
      await transaction.deleteFrom('monitors').where('monitor', '=', name).execute()
    })
  }
}

/** A monitor from its row. */
export function monitorOf(row: Pick<Selectable<Schema['monitors']>, 'message' | 'revision'>): Monitor {
  return { ...fromBinary(MonitorSchema, row.message), etag: String(row.revision) }
}

const policyFields: Readonly<Record<string, keyof MonitorPolicy>> = {
  window: 'window',
  look_interval: 'lookInterval',
  false_incidents_per_month: 'falseIncidentsPerMonth',
  minimum_effect: 'minimumEffect',
  minimum_rows: 'minimumRows',
  ignored: 'ignored',
  request_training: 'requestTraining',
}

function maskedPolicy(
  current: MonitorPolicy | undefined,
  wanted: MonitorPolicy | undefined,
  paths: readonly string[],
): MonitorPolicy | undefined {
  if (paths.length === 0 || paths.includes('policy')) return wanted
  const merged = create(MonitorPolicySchema, current)
  for (const path of paths) {
    const field = policyFields[path.replace(/^policy\./, '')]
    if (field === undefined || !path.startsWith('policy.')) {
      throw Failure.invalid('update_mask', `${path} cannot be changed; policy and its fields can`)
    }
    Object.assign(merged, { [field]: wanted?.[field] })
  }
  return merged
}

function checkEtag(etag: string, revision: number): void {
  if (etag === '' || etag === String(revision)) return
  throw new Failure(Code.ABORTED, 'STALE_ETAG', `the monitor has changed: its etag is ${revision}, not ${etag}`)
}

function alreadyExists(taken: string, endpoint: string): Failure {
  return new Failure(Code.ALREADY_EXISTS, 'MONITOR_EXISTS', `${taken} exists, or watches ${endpoint} already`)
}

function notFound(name: string): Failure {
  return new Failure(Code.NOT_FOUND, 'MONITOR_NOT_FOUND', `there is no ${name}`)
}
