/**
 * The ledger: the only way to change the registry.
 *
 * 1. A change and its entry in `changes` commit in one transaction: who watches sees every change and nothing else.
 * 2. Revisions count from 1 without a gap, in the order of commits, because a transaction holds the write lock from its
 *    start. Times rise strictly with them, also when the clock stands still or goes back.
 * 3. A reader that stops at any point, here or in another process, goes on from the last revision it kept.
 */
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { type RegistryChange, RegistryChangeSchema } from '@slipway/proto/slipway/registry/v1/registry_service'
import { timestampFromMicros } from '@slipway/resources'
import { meter, metric } from '@slipway/telemetry'
import type { Kysely, Transaction } from 'kysely'
import type { Schema } from './schema.ts'

/** The open transaction of a change. */
export interface Change {
  readonly sql: Transaction<Schema>
  readonly actor: string
  readonly timeMicros: bigint
  /** The revision that `record` gives next. */
  readonly revision: number
  /** Enters what changed, as it is after the change. */
  record(modelId: string, change: NonNullable<MessageInitShape<typeof RegistryChangeSchema>['change']>): Promise<void>
}

/** What the ledger needs. */
export interface LedgerOptions {
  readonly database: Kysely<Schema>
  /** Microseconds since the epoch. */
  readonly nowMicros: () => bigint
}

/** Applies changes, and gives them back in order. */
export class Ledger {
  readonly database: Kysely<Schema>
  readonly #nowMicros: () => bigint
  readonly #waiting = new Set<() => void>()
  readonly #changes = meter('slipway.registry').createCounter(metric.registryChanges)
  #committed = 0

  constructor(options: LedgerOptions) {
    this.database = options.database
    this.#nowMicros = options.nowMicros
  }

  /** Runs `work` in a transaction of its own; when it returns, what it recorded is durable and watchers are told. */
  async change<T>(actor: string, work: (change: Change) => Promise<T>): Promise<T> {
    let revision = 0
    let first = 0
    const transaction = this.database.transaction().setIsolationLevel('serializable')
    const result = await transaction.execute(async (sql) => {
      const change = await this.#begin(sql, actor)
      first = change.revision
      const value = await work(change)
      revision = change.revision - 1
      return value
    })
    this.#changes.add(revision + 1 - first)
    this.#committed = Math.max(this.#committed, revision)
    for (const wake of this.#waiting) wake()
    return result
  }

  /** The newest revision, 0 when nothing was ever changed. */
  async latestRevision(): Promise<number> {
    const row = await lastChange(this.database)
    return row?.revision ?? 0
  }

  /** The next changes after a revision, oldest first. */
  async read(afterRevision: number, limit: number): Promise<RegistryChange[]> {
    const rows = await this.database
      .selectFrom('changes')
      .select('message')
      .where('revision', '>', afterRevision)
      .orderBy('revision')
      .limit(limit)
      .execute()
    return rows.map((row) => fromBinary(RegistryChangeSchema, row.message))
  }

  /** Waits until there may be something after the revision, at most so long, or until the signal; never rejects. */
  async wait(afterRevision: number, timeoutMs: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted || this.#committed > afterRevision) return
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.#waiting.delete(done)
        signal.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, timeoutMs)
      this.#waiting.add(done)
      signal.addEventListener('abort', done, { once: true })
    })
  }

  async #begin(sql: Transaction<Schema>, actor: string): Promise<Change> {
    const last = await lastChange(sql)
    const now = this.#nowMicros()
    const earliest = last === undefined ? now : BigInt(last.time_micros) + 1n
    const timeMicros = now > earliest ? now : earliest
    let revision = (last?.revision ?? 0) + 1
    return {
      sql,
      actor,
      timeMicros,
      get revision() {
        return revision
      },
      record: async (modelId, change) => {
        const time = timestampFromMicros(timeMicros)
        const message = create(RegistryChangeSchema, { revision: BigInt(revision), time, actor, change })
        const bytes = toBinary(RegistryChangeSchema, message)
        const row = { revision, time_micros: Number(timeMicros), actor, model_id: modelId, message: bytes }
        await sql.insertInto('changes').values(row).execute()
        revision += 1
      },
    }
  }
}

async function lastChange(sql: Kysely<Schema>): Promise<{ revision: number; time_micros: number } | undefined> {
  const newest = sql.selectFrom('changes').select(['revision', 'time_micros']).orderBy('revision', 'desc').limit(1)
  return await newest.executeTakeFirst()
}
