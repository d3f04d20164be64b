/**
 * Counts logged predictions. All of it happens in the caller's transaction.
 *
 * 1. A prediction id is counted once within retention, whatever comes twice and in whatever order: counts after a crash
 *    and a replay are the same, to the bit.
 * 2. A row goes into the hour of its event time, so it does not matter when it arrives, until retention has passed; what
 *    comes later still is only counted as too late.
 */
import type { PredictionLogged } from '@slipway/proto/slipway/events/v1/prediction'
import { addCounts, emptyCounts } from '@slipway/stats'
import type { Transaction } from 'kysely'
import { sql } from 'kysely'
import type { Baseline } from './baseline.ts'
import { decodeCounts, encodeCounts } from './counts.ts'
import { applyLabels } from './labels.ts'
import { limits } from './limits.ts'
import type { Arrivals } from './looks.ts'
import type { Schema } from './schema.ts'
import { hourOf, microsOfTimestamp } from './time.ts'

/** A logged prediction and where it came from. */
export interface LoggedPrediction {
  readonly prediction: PredictionLogged
  readonly partition: number
}

/** What to count, for which monitor. */
export interface CountingOptions {
  readonly monitor: string
  readonly logged: readonly LoggedPrediction[]
  /** By digest. */
  readonly baselines: ReadonlyMap<string, Baseline>
  /** Rows of earlier hours come too late. */
  readonly oldestHour: number
}

/** Event time of a logged prediction: as the caller said, else when it was answered. */
export function eventMicrosOf(prediction: PredictionLogged): bigint {
  return microsOfTimestamp(prediction.eventTime ?? prediction.answerTime)
}

/** Counts what has not been counted; gives the hours that got new rows. */
export async function countPredictions(
  transaction: Transaction<Schema>,
  options: CountingOptions,
): Promise<Set<number>> {
  const inTime = options.logged.filter(({ prediction }) => hourOf(eventMicrosOf(prediction)) >= options.oldestHour)
  const fresh = await insertPredictions(transaction, options.monitor, inTime)
  await addPanes(transaction, options, fresh)
  await addVersions(transaction, options.monitor, fresh)
  const { batches } = await transaction
    .updateTable('monitors')
    .set({
      predictions: sql`predictions + ${fresh.length}`,
      too_late: sql`too_late + ${options.logged.length - inTime.length}`,
      batches: sql`batches + 1`,
    })
    .where('monitor', '=', options.monitor)
    .returning('batches')
    .executeTakeFirstOrThrow()
  await addArrivals(transaction, options.monitor, fresh, batches)
  await applyLabels(
    transaction,
    options.monitor,
    fresh.map(({ prediction }) => prediction.predictionId),
  )
  return new Set(fresh.map(({ prediction }) => hourOf(eventMicrosOf(prediction))))
}

/** The arrivals of an endpoint that its watermark follows from. */
export async function readArrivals(transaction: Transaction<Schema>, monitor: string): Promise<Arrivals[]> {
  const query = transaction.selectFrom('arrivals').select(['partition', 'hour', 'rows', 'batch'])
  return await query.where('monitor', '=', monitor).execute()
}

async function insertPredictions(
  transaction: Transaction<Schema>,
  monitor: string,
  logged: readonly LoggedPrediction[],
): Promise<LoggedPrediction[]> {
  const fresh: LoggedPrediction[] = []
  for (let start = 0; start < logged.length; start += limits.rowsPerStatement) {
    const chunk = logged.slice(start, start + limits.rowsPerStatement)
    const inserted = await transaction
      .insertInto('predictions')
      .values(
        chunk.map(({ prediction }) => ({
          prediction_id: prediction.predictionId,
          monitor,
          digest: prediction.digest,
          event_micros: Number(eventMicrosOf(prediction)),
          score: finiteOrNull(prediction.outputs[0]),
          label: null,
        })),
      )
      .onConflict((conflict) => conflict.column('prediction_id').doNothing())
      .returning('prediction_id')
      .execute()
    const ids = new Set(inserted.map((row) => row.prediction_id))
    fresh.push(...chunk.filter(({ prediction }) => ids.delete(prediction.predictionId)))
  }
  return fresh
}

async function addPanes(
  transaction: Transaction<Schema>,
  { monitor, baselines }: CountingOptions,
  fresh: readonly LoggedPrediction[],
): Promise<void> {
  const panes = new Map<string, { digest: string; hour: number; rate: number; rows: number; counts: number[] }>()
  for (const { prediction } of fresh) {
    const { digest, samplingRate } = prediction
    const baseline = baselines.get(digest)
    const hour = hourOf(eventMicrosOf(prediction))
    const rate = samplingRate > 0 && samplingRate <= 1 ? samplingRate : 1
    const key = `${digest} ${hour} ${rate}`
    const pane = panes.get(key) ?? { digest, hour, rate, rows: 0, counts: emptyCounts(baseline?.cellCount ?? 0) }
    panes.set(key, pane)
    pane.rows += 1
    baseline?.eachCell(prediction, (cell) => {
      pane.counts[cell] = (pane.counts[cell] ?? 0) + 1
    })
  }
  for (const { digest, hour, rate, rows, counts } of panes.values()) {
    const key = { monitor, digest, hour, sampling_rate: rate }
    const stored = await transaction
      .selectFrom('panes')
      .select(['rows', 'counts'])
      .where((where) => where.and(key))
      .executeTakeFirst()
    const sum = stored === undefined ? counts : addCounts(decodeCounts(stored.counts), counts)
    const next = { rows: rows + (stored?.rows ?? 0), counts: encodeCounts(sum) }
    await transaction
      .insertInto('panes')
      .values({ ...key, ...next })
      .onConflict((conflict) => conflict.columns(['monitor', 'digest', 'hour', 'sampling_rate']).doUpdateSet(next))
      .execute()
  }
}

async function addArrivals(
  transaction: Transaction<Schema>,
  monitor: string,
  fresh: readonly LoggedPrediction[],
  batch: number,
): Promise<void> {
  const groups = Map.groupBy(fresh, ({ prediction, partition }) => `${partition} ${hourOf(eventMicrosOf(prediction))}`)
  if (groups.size === 0) return
  const rows = [...groups].map(([key, members]) => {
    const [partition = 0, hour = 0] = key.split(' ').map(Number)
    return { monitor, partition, hour, rows: members.length, batch }
  })
  await transaction
    .insertInto('arrivals')
    .values(rows)
    .onConflict((conflict) =>
      conflict
        .columns(['monitor', 'partition', 'hour'])
        .doUpdateSet({ rows: sql`arrivals.rows + excluded.rows`, batch }),
    )
    .execute()
}

async function addVersions(
  transaction: Transaction<Schema>,
  monitor: string,
  fresh: readonly LoggedPrediction[],
): Promise<void> {
  const groups = Map.groupBy(fresh, ({ prediction }) => prediction.digest)
  if (groups.size === 0) return
  const rows = [...groups].map(([digest, members]) => ({
    monitor,
    digest,
    model_version: members[0]?.prediction.modelVersion ?? '',
    predictions: members.length,
    label_revision: 0,
  }))
  await transaction
    .insertInto('versions')
    .values(rows)
    .onConflict((conflict) =>
      conflict
        .columns(['monitor', 'digest'])
        .doUpdateSet({ predictions: sql`versions.predictions + excluded.predictions` }),
    )
    .execute()
}

function finiteOrNull(value: number | undefined): number | null {
  return value !== undefined && Number.isFinite(value) ? value : null
}
