/**
 * Joins labels with predictions by prediction id, whichever comes first. A piece of feedback is counted once by its id;
 * of several labels of one prediction the latest by its own time counts, so order and delay of arrival do not matter.
 */
import type { Transaction } from 'kysely'
import { sql } from 'kysely'
import { limits } from './limits.ts'
import type { Schema } from './schema.ts'

/** A label as it came. */
export interface Label {
  readonly predictionId: string
  readonly feedbackId: string
  readonly label: number
  readonly timeMicros: bigint
}

/** Keeps labels that are new and joins those whose prediction has been counted. */
export async function recordLabels(
  transaction: Transaction<Schema>,
  monitor: string,
  labels: readonly Label[],
): Promise<void> {
  for (let start = 0; start < labels.length; start += limits.rowsPerStatement) {
    const inserted = await transaction
      .insertInto('labels')
      .values(
        labels.slice(start, start + limits.rowsPerStatement).map((label) => ({
          prediction_id: label.predictionId,
          feedback_id: label.feedbackId,
          monitor,
          label: label.label,
          time_micros: Number(label.timeMicros),
        })),
      )
      .onConflict((conflict) => conflict.columns(['prediction_id', 'feedback_id']).doNothing())
      .returning('prediction_id')
      .execute()
    if (inserted.length === 0) continue
    const ids = inserted.map((row) => row.prediction_id)
    const counted = await transaction
      .selectFrom('predictions')
      .select('prediction_id')
      .where('prediction_id', 'in', ids)
      .execute()
    const known = new Set(counted.map((row) => row.prediction_id))
    await transaction
      .updateTable('monitors')
      .set({ labels_received: sql`labels_received + ${ids.length}` })
      .where('monitor', '=', monitor)
      .execute()
    await join(transaction, monitor, [...known], ids.filter((id) => known.has(id)).length)
  }
}

/** Joins predictions that have just been counted with the labels that came before them. */
export async function applyLabels(
  transaction: Transaction<Schema>,
  monitor: string,
  predictionIds: readonly string[],
): Promise<void> {
  for (let start = 0; start < predictionIds.length; start += limits.rowsPerStatement) {
    const ids = predictionIds.slice(start, start + limits.rowsPerStatement)
    const waiting = await transaction
      .selectFrom('labels')
      .select('prediction_id')
      .where('prediction_id', 'in', ids)
      .execute()
    await join(transaction, monitor, [...new Set(waiting.map((row) => row.prediction_id))], waiting.length)
  }
}

async function join(
  transaction: Transaction<Schema>,
  monitor: string,
  predictionIds: readonly string[],
  labels: number,
): Promise<void> {
  if (predictionIds.length === 0) return
  await transaction
    .updateTable('predictions')
    .set({
      label: sql`(SELECT labels.label FROM labels WHERE labels.prediction_id = predictions.prediction_id
        ORDER BY labels.time_micros DESC, labels.feedback_id DESC LIMIT 1)`,
    })
    .where('prediction_id', 'in', [...predictionIds])
    .execute()
  await transaction
    .updateTable('monitors')
    .set({ labels_joined: sql`labels_joined + ${labels}` })
    .where('monitor', '=', monitor)
    .execute()
  const touched = await transaction
    .selectFrom('predictions')
    .select('digest')
    .distinct()
    .where('prediction_id', 'in', [...predictionIds])
    .execute()
  await transaction
    .updateTable('versions')
    .set({ label_revision: sql`label_revision + 1` })
    .where('monitor', '=', monitor)
    .where(
      'digest',
      'in',
      touched.map((row) => row.digest),
    )
    .execute()
}
