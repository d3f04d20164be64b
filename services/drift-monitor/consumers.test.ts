import type { EventBus, ReceivedRecord } from '@slipway/events'
import { type Incident, IncidentState } from '@slipway/proto/slipway/drift/v1/monitor'
import { createRandom } from '@slipway/stats'
import { migrate, openSqlite } from '@slipway/storage'
import type { Kysely } from 'kysely'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Baselines } from './baselines.ts'
import { baselinesOf, type ConsumersOptions, onPredictions } from './consumers.ts'
import { Monitors } from './monitors.ts'
import { Reports } from './report.ts'
import { migrations, type Schema } from './schema.ts'
import { liveStartMicros, logged, type SyntheticRow, syntheticRows, syntheticVersion } from './synthetic.fixture.ts'
import { hourOf } from './time.ts'

const digest = 'sha256:1'
const endpoint = 'endpoints/e'
const monitor = 'monitors/m'
const DAY = 86_400_000_000n
const version = syntheticVersion(digest)

let database: Kysely<Schema>
let options: ConsumersOptions
let incidents: Incident[]

beforeEach(async () => {
  database = openSqlite<Schema>({ path: ':memory:' })
  await migrate(database, migrations)
  const nowMicros = () => BigInt(Date.UTC(2026, 0, 1)) * 1000n
  await new Monitors({ database, nowMicros }).create({ name: monitor, endpoint } as Parameters<Monitors['create']>[0])
  incidents = []
  options = {
    bus: undefined as unknown as EventBus,
    database,
    baselines: new Baselines({ database, fetch: async () => version, capacity: 4 }),
    group: 'test',
    retentionHours: 240,
    nowMicros,
    onIncidents: (changed) => incidents.push(...changed),
  }
})

afterEach(async () => {
  await database.destroy()
})

/** Delivers rows as one batch of a partition. */
async function deliver(rows: readonly SyntheticRow[], partition: number): Promise<void> {
  const events = rows.map((row) => ({
    message: logged(row, `p${row.timeMicros}-${row.score}`, digest, endpoint),
    record: { partition } as ReceivedRecord,
  }))
  if (events.length > 0) await onPredictions(options, events)
}

/** Delivers rows as they come live: hour by hour, each hour in small batches of four partitions. */
async function deliverLive(rows: readonly SyntheticRow[]): Promise<void> {
  const byHour = Map.groupBy(rows, ({ timeMicros }) => hourOf(timeMicros))
  for (const members of byHour.values()) {
    for (let partition = 0; partition < 4; partition++) {
      await deliver(
        members.filter((_, index) => index % 4 === partition),
        partition,
      )
    }
  }
}

async function report() {
  const row = await database.selectFrom('monitors').selectAll().executeTakeFirstOrThrow()
  const baselines = await baselinesOf(options, monitor)
  return await new Reports(database).report({ row, baselines, modelVersion: '', endHour: undefined })
}

const inKilometres = (row: SyntheticRow): SyntheticRow => ({ ...row, distance: (row.distance ?? 0) * 1.609344 })
const clean = syntheticRows('live', liveStartMicros, 3, 800)

describe('a live stream in small batches', () => {
  test('is looked at every three hours, opens nothing while clean, and one incident before the day of the fault is over', async () => {
    await deliverLive(clean)
    const { last_look_hour } = await database.selectFrom('monitors').selectAll().executeTakeFirstOrThrow()
    expect(last_look_hour).toBe(hourOf(liveStartMicros) + 69)
    expect(incidents).toEqual([])
    const faultMicros = liveStartMicros + 3n * DAY
    await deliverLive(syntheticRows('fault', faultMicros, 1, 800).map(inKilometres))
    expect(incidents.map(({ features, state }) => [features, state])).toEqual([[['distance'], IncidentState.OPEN]])
  })

  test('late rows amend the window that they belong to, those beyond retention are only counted', async () => {
    const random = createRandom('late')
    const isLate = new Set(clean.filter(() => random.uniform() < 0.05))
    await deliverLive(clean.filter((row) => !isLate.has(row)))
    const before = await report()
    expect(before.versions?.[0]?.features?.[0]?.verdict?.revision).toBe(0)
    const newest = [...isLate].filter(({ timeMicros }) => timeMicros > liveStartMicros + 2n * DAY)
    await deliver(newest, 1)
    const after = await report()
    expect(after.versions?.[0]?.features?.[0]?.verdict?.revision).toBe(1)
    expect(Number(after.predictions) - Number(before.predictions)).toBe(newest.length)
    await deliver(syntheticRows('ancient', liveStartMicros - 60n * DAY, 1, 5), 0)
    expect(await report()).toMatchObject({ tooLate: 5n, predictions: after.predictions })
  })

  test('a partition that lags is waited for, one wrong clock moves nothing', async () => {
    const slow = clean.filter((_, index) => index % 2 === 0)
    const fast = clean.filter((_, index) => index % 2 === 1)
    const half = (rows: readonly SyntheticRow[]) => rows.slice(0, Math.floor(rows.length / 2))
    await deliver(half(slow), 0)
    await deliver(fast, 1)
    const lookAt = async () =>
      (await database.selectFrom('monitors').selectAll().executeTakeFirstOrThrow()).last_look_hour
    const waiting = await lookAt()
    expect(waiting).toBeLessThanOrEqual(hourOf(liveStartMicros) + 36)
    const [first] = clean
    if (first !== undefined) await deliver([{ ...first, timeMicros: liveStartMicros + 300n * DAY }], 0)
    expect(await lookAt()).toBe(waiting)
    await deliver(slow.slice(half(slow).length), 0)
    expect(await lookAt()).toBe(hourOf(liveStartMicros) + 69)
  })

  test('a backlog handed out partition by partition, in any order, opens nothing', async () => {
    const byPartition = [0, 1, 2, 3].map((partition) => clean.filter((_, index) => index % 4 === partition))
    const random = createRandom('backlog')
    const batches = byPartition.flatMap((rows, partition) =>
      Array.from({ length: Math.ceil(rows.length / 200) }, (_, batch) => ({
        partition,
        at: batch + random.uniform() * 2,
        batch,
        rows: rows.slice(batch * 200, (batch + 1) * 200),
      })),
    )
    batches.sort((a, b) => (a.partition === b.partition ? a.batch - b.batch : a.at - b.at))
    for (const { partition, rows } of batches) await deliver(rows, partition)
    expect(incidents).toEqual([])
    expect(Number((await report()).predictions)).toBe(clean.length)
  })

  test('rows of an hour without an event time or beyond the clock are poison', async () => {
    const [first] = clean
    if (first === undefined) throw new Error('no rows')
    await expect(deliver([{ ...first, timeMicros: 0n }], 0)).rejects.toThrow('needs a time')
    const future = BigInt(Date.UTC(2026, 0, 3)) * 1000n
    await expect(deliver([{ ...first, timeMicros: future }], 0)).rejects.toThrow('in the future')
  })
})
