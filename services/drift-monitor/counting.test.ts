import type { PredictionLogged } from '@slipway/proto/slipway/events/v1/prediction'
import { createRandom } from '@slipway/stats'
import { migrate, openSqlite } from '@slipway/storage'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { baselineOf } from './baseline.ts'
import { countPredictions } from './counting.ts'
import { type Label, recordLabels } from './labels.ts'
import { Monitors } from './monitors.ts'
import { migrations, type Schema } from './schema.ts'
import { liveStartMicros, logged, syntheticRows, syntheticVersion } from './synthetic.fixture.ts'

const monitor = 'monitors/m'
const digest = 'sha256:1'
const baseline = baselineOf(syntheticVersion(digest, 7, 100))
const predictions = syntheticRows('counting', liveStartMicros, 2, 60).map((row, index) =>
  logged(index % 7 === 0 ? { ...row, distance: undefined } : row, `p${index}`, digest, 'endpoints/e'),
)
const labels: Label[] = predictions
  .slice(0, 50)
  .flatMap(({ predictionId }, index) => [
    { predictionId, feedbackId: 'first', label: index % 2, timeMicros: 1n },
    ...(index % 5 === 0 ? [{ predictionId, feedbackId: 'second', label: 1, timeMicros: 2n }] : []),
  ])

type Delivery =
  | { readonly kind: 'predictions'; readonly partition: number; readonly batch: readonly PredictionLogged[] }
  | { readonly kind: 'labels'; readonly batch: readonly Label[] }

/** Everything that is kept after deliveries in this order, but by which partition rows came. */
async function stateAfter(deliveries: readonly Delivery[]) {
  const database = openSqlite<Schema>({ path: ':memory:' })
  await migrate(database, migrations)
  const monitors = new Monitors({ database, nowMicros: () => 0n })
  await monitors.create({ name: monitor, endpoint: 'endpoints/e' } as Parameters<Monitors['create']>[0])
  const baselines = new Map([[digest, baseline]])
  for (const delivery of deliveries) {
    await database.transaction().execute(async (transaction) => {
      if (delivery.kind === 'labels') return await recordLabels(transaction, monitor, delivery.batch)
      const items = delivery.batch.map((prediction) => ({ prediction, partition: delivery.partition }))
      await countPredictions(transaction, { monitor, logged: items, baselines, oldestHour: 0 })
    })
  }
  const all = <T extends keyof Schema>(table: T, ...order: (keyof Schema[T] & string)[]) =>
    order
      .reduce((query, column) => query.orderBy(column as never), database.selectFrom(table as never).selectAll())
      .execute()
  const state = {
    panes: await all('panes', 'digest', 'hour', 'sampling_rate'),
    predictions: await all('predictions', 'prediction_id'),
    labels: await all('labels', 'prediction_id', 'feedback_id'),
    counters: await database
      .selectFrom('monitors')
      .select(['predictions', 'too_late', 'labels_received', 'labels_joined'])
      .execute(),
  }
  await database.destroy()
  return state
}

function delivered(seed: number, duplicates: boolean): Delivery[] {
  const random = createRandom(seed)
  const cut = <T>(items: readonly T[]): T[][] => {
    const copies = duplicates ? [...items, ...items.filter(() => random.uniform() < 0.3)] : [...items]
    random.shuffle(copies)
    const batches: T[][] = []
    while (copies.length > 0) batches.push(copies.splice(0, 1 + random.integer(40)))
    return batches
  }
  return random.shuffle([
    ...cut(predictions).map((batch): Delivery => ({ kind: 'predictions', partition: random.integer(4), batch })),
    ...cut(labels).map((batch): Delivery => ({ kind: 'labels', batch })),
  ])
}

describe('counting', () => {
  test('order, duplicates, batches and partitions leave the same state, to the bit', async () => {
    const wanted = await stateAfter([
      { kind: 'predictions', partition: 0, batch: predictions },
      { kind: 'labels', batch: labels },
    ])
    expect(wanted.counters).toEqual([{ predictions: 120, too_late: 0, labels_received: 60, labels_joined: 60 }])
    await fc.assert(
      fc.asyncProperty(fc.nat(), async (seed) => {
        expect(await stateAfter(delivered(seed, true))).toEqual(wanted)
      }),
      { numRuns: 25 },
    )
  })

  test('a missing value has its cell, and every row one cell in each column', async () => {
    const { panes } = await stateAfter([{ kind: 'predictions', partition: 0, batch: predictions }])
    const counts = (panes as Schema['panes'][]).map((pane) => new Uint32Array(Uint8Array.from(pane.counts).buffer))
    const inCells = (from: number, to: number) =>
      counts.reduce((sum, each) => sum + each.slice(from, to).reduce((total, count) => total + count, 0), 0)
    for (const column of baseline.columns) {
      expect(inCells(column.firstCell, column.firstCell + column.cellCount), column.name).toBe(predictions.length)
    }
    const distance = baseline.columns.find(({ name }) => name === 'distance')
    const missing = (distance?.firstCell ?? 0) + (distance?.cellCount ?? 0) - 2
    expect(inCells(missing, missing + 1)).toBe(predictions.filter(({ doubles }) => Number.isNaN(doubles[1])).length)
  })
})
