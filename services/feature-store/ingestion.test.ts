import { join } from 'node:path'
import {
  deadLetterHeader,
  deadLetterTopic,
  type EventBus,
  openEmbeddedBus,
  publishTo,
  type ReceivedRecord,
  topics,
} from '@slipway/events'
import { FeatureStatus } from '@slipway/proto/slipway/features/v1/value'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startIngestion } from './ingestion.ts'
import { defineTraffic, type RowInit, startTestStore, type TestStore, trafficRow, value } from './store.fixture.ts'
import type { Writes } from './writes.ts'

let store: TestStore
let bus: EventBus

beforeEach(async () => {
  store = await startTestStore()
  await defineTraffic(store)
  bus = openEmbeddedBus({ path: join(store.directory, 'events.db') })
})
afterEach(async () => {
  await bus.close()
  await store.stop()
})

async function read(origin: string): Promise<{ status: FeatureStatus | undefined; flights: bigint | undefined }> {
  const { vectors } = await store.client.getOnlineFeatures({
    selection: { case: 'featureService', value: 'featureServices/late' },
    entityRows: [{ keys: { origin: value.text(origin) } }],
  })
  return { status: vectors[0]?.statuses[0], flights: vectors[0]?.int64s[0] }
}

test('rows from the bus are served as rows from callers are', async () => {
  await publishTo(bus, topics.features, [trafficRow('SEA', 1, { flights: 1n }), trafficRow('SEA', 2, { flights: 2n })])
  await expect.poll(() => read('SEA'), { timeout: 10_000 }).toEqual({ status: FeatureStatus.PRESENT, flights: 2n })
  expect(await store.client.writeFeatures({ rows: [trafficRow('SEA', 1, { flights: 1n })] })).toMatchObject({
    duplicateCount: 1,
  })
})

test('refused rows are parked with their reasons, the others of their batch are kept', async () => {
  const parked: ReceivedRecord[] = []
  const parking = await bus.subscribe({
    topics: [deadLetterTopic(topics.features.name)],
    group: 'test',
    handle: async (batch) => void parked.push(...batch),
  })
  const wrong = { ...trafficRow('SEA', 1, {}), values: { flights: value.text('many') } }
  const unknown = { ...trafficRow('SEA', 1, {}), featureView: 'featureViews/none' }
  const rows: RowInit[] = [trafficRow('SEA', 1, { flights: 1n }), wrong, trafficRow('SEA', 2, { flights: 2n }), unknown]
  await publishTo(bus, topics.features, [...rows, trafficRow('SEA', 3, { flights: 3n })])
  await expect.poll(() => read('SEA'), { timeout: 10_000 }).toMatchObject({ flights: 3n })
  await expect.poll(() => parked.length, { timeout: 10_000 }).toBe(2)
  expect(parked.map(({ headers }) => headers[deadLetterHeader.reason]).sort()).toEqual([
    'feature_view: there is no featureViews/none',
    'values.flights: expected int64, got string',
  ])
  await parking.stop()
})

test('a batch that comes again changes nothing, although its rows say neither when nor in which order', async () => {
  const written: { sequence: bigint | undefined }[] = []
  const results = ['fails', 'works']
  const writes = {
    write: async (rows: readonly { sequence?: bigint | undefined }[]) => {
      written.push(...rows.map(({ sequence }) => ({ sequence })))
      if (results.shift() === 'fails') throw new Error('the disk is full')
      return rows.map(() => ({ outcome: 'applied' as const }))
    },
  } as unknown as Writes
  const other = openEmbeddedBus({ path: join(store.directory, 'other.db') })
  const subscription = await startIngestion(other, writes)
  const { sequence: _, ...bare } = trafficRow('SEA', 1, { flights: 1n })
  await publishTo(other, topics.features, [bare, { ...bare, values: {} }])
  await subscription.caughtUp()
  expect(written).toHaveLength(4)
  expect(written.slice(0, 2)).toEqual(written.slice(2))
  expect(written[0]?.sequence).toBeLessThan(written[1]?.sequence ?? 0n)
  await other.close()
})

test('a store that stops before its bus was ever there stops at once', async () => {
  const away = await startTestStore({ SLIPWAY_KAFKA_BROKERS: '127.0.0.1:1' })
  await defineTraffic(away)
  await away.stop()
})

test('rows that were published while the store was away are taken when it is back', async () => {
  await store.restart(() => publishTo(bus, topics.features, [trafficRow('LAX', 1, { flights: 9n })]))
  await expect.poll(() => read('LAX'), { timeout: 10_000 }).toMatchObject({ flights: 9n })
})
