import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { create } from '@bufbuild/protobuf'
import { DurationSchema } from '@bufbuild/protobuf/wkt'
import { AsOf } from '@slipway/proto/slipway/features/v1/feature_store_service'
import { FeatureSchema } from '@slipway/proto/slipway/features/v1/feature_view'
import { type Value, ValueType } from '@slipway/proto/slipway/features/v1/value'
import { timestampFromMicros } from '@slipway/resources'
import { Code, type Failure } from '@slipway/rpc'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { maxMaking } from './datasets.ts'
import {
  at,
  createTrainingSet,
  defineTraffic,
  downloadDataset,
  parquetOf,
  type RowInit,
  readDataset,
  startTestStore,
  type TestStore,
  trafficRow,
  uploadSpine,
  uploadSpineOf,
  value,
} from './store.fixture.ts'

const featureService = 'featureServices/late'
let store: TestStore

beforeEach(async () => {
  store = await startTestStore()
  await defineTraffic(store)
})
afterEach(() => store.stop())

/** Numbers from 0 to 1, the same for the same seed: a linear congruential generator. */
function createRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

const failureOf = async (work: Promise<unknown>): Promise<Failure> =>
  await work.then(
    () => Promise.reject(new Error('did not fail')),
    (error: Failure) => error,
  )

test('a training set has one row for every spine row, in its order, duplicates and unknown entities included', async () => {
  await store.client.writeFeatures({ rows: [trafficRow('SEA', 10, { flights: 1n, delay: 0.5 })] })
  const spineDigest = await uploadSpineOf(store, [
    ['SFO', 20],
    ['SEA', 20],
    ['SEA', 20],
    ['SEA', 9],
    ['SEA', 10],
  ])
  const dataset = await createTrainingSet(store, { spineDigest, featureService })
  const rows = await readDataset(store, dataset)
  expect(rows.map(({ id, flights, flights__status: status }) => [id, flights, status])).toEqual([
    [0, null, 'NOT_FOUND'],
    [1, 1n, 'PRESENT'],
    [2, 1n, 'PRESENT'],
    [3, null, 'NOT_FOUND'],
    [4, 1n, 'PRESENT'],
  ])
  expect(dataset).toMatchObject({ rowCount: 5n, spineDigest, featureService, asOf: AsOf.KNOWN })
})

test('a correction that became known later is not in a training set, unless it is asked for by event time', async () => {
  await store.client.writeFeatures({
    rows: [trafficRow('SEA', 10, { flights: 1n }), trafficRow('SEA', 10, { flights: 2n }, 50)],
  })
  const spineDigest = await uploadSpineOf(store, [
    ['SEA', 49],
    ['SEA', 50],
  ])
  const known = await readDataset(store, await createTrainingSet(store, { spineDigest, featureService }))
  expect(known.map(({ flights }) => flights)).toEqual([1n, 2n])
  const event = { spineDigest, featureService, asOf: AsOf.EVENT }
  const all = await readDataset(store, await createTrainingSet(store, event))
  expect(all.map(({ flights }) => flights)).toEqual([2n, 2n])
})

test('no value of a training set was known later than its row, and by event time some are', async () => {
  const view = await store.client.getFeatureView({ name: 'featureViews/traffic' })
  const features = [...view.features, create(FeatureSchema, { name: 'known', type: ValueType.TIMESTAMP })]
  await store.client.updateFeatureView({ featureView: { ...view, features } })
  const service = { name: featureService, features: ['traffic:known'] }
  await store.client.updateFeatureService({ featureService: service })
  const random = createRandom(20_010_101)
  const airports = ['SEA', 'SFO', 'LAX']
  const rows = Array.from({ length: 3000 }, (_, place) => {
    const event = Math.floor(random() * 10_000)
    const created = event + Math.floor(random() * 600) - 100
    const row = trafficRow(airports[place % 3] ?? '', event, {}, created)
    return { ...row, sequence: BigInt(place), values: { known: value.time(at(created)) } }
  })
  expect((await store.client.writeFeatures({ rows })).rejected).toEqual([])
  const spine = Array.from({ length: 3000 }, (_, place): [string, number] => [
    airports[place % 3] ?? '',
    random() * 10_000,
  ])
  const spineDigest = await uploadSpineOf(store, spine)
  const leaks = async (asOf: AsOf) => {
    const dataset = await createTrainingSet(store, { spineDigest, featureService, asOf })
    const found = await readDataset(store, dataset)
    expect(found.filter(({ known__status: status }) => status === 'PRESENT').length).toBeGreaterThan(2500)
    return found.filter(({ known, event_time: time }) => known instanceof Date && time instanceof Date && known > time)
      .length
  }
  expect(await leaks(AsOf.KNOWN)).toBe(0)
  expect(await leaks(AsOf.EVENT)).toBeGreaterThan(500)
})

test('the ttl counts to the microsecond, and its bound is still fresh', async () => {
  const view = await store.client.getFeatureView({ name: 'featureViews/traffic' })
  await store.client.updateFeatureView({ featureView: { ...view, ttl: create(DurationSchema, { seconds: 10n }) } })
  const service = await store.client.getFeatureService({ name: featureService })
  await store.client.updateFeatureService({ featureService: service })
  await store.client.writeFeatures({ rows: [trafficRow('SEA', 0, { flights: 1n })] })
  const spineDigest = await uploadSpineOf(store, [
    ['SEA', 9.999999],
    ['SEA', 10],
    ['SEA', 10.000001],
  ])
  const rows = await readDataset(
    store,
    await createTrainingSet(store, { spineDigest, featureService, includeTimes: true }),
  )
  expect(rows.map((row) => [row.flights__status, row.flights])).toEqual([
    ['PRESENT', 1n],
    ['PRESENT', 1n],
    ['OUTSIDE_MAX_AGE', null],
  ])
  expect(rows.map((row) => row.flights__event_time)).toEqual(Array(3).fill(new Date(Number(at(0) / 1000n))))
})

test('the same rows give the same bytes and the same dataset, however they are spread over parts', async () => {
  const write = (second: number) => store.client.writeFeatures({ rows: [trafficRow('SEA', second, { flights: 1n })] })
  const spineDigest = await uploadSpineOf(store, [
    ['SEA', 5],
    ['SEA', 15],
  ])
  await write(1)
  await write(10)
  const first = await createTrainingSet(store, { spineDigest, featureService })
  const again = await createTrainingSet(store, { spineDigest, featureService })
  expect(again).toEqual(first)
  await write(20)
  const later = await createTrainingSet(store, { spineDigest, featureService })
  expect(later.digest).toBe(first.digest)
  const other = await startTestStore()
  try {
    await defineTraffic(other)
    await other.client.writeFeatures({
      rows: [20, 10, 1].map((second) => trafficRow('SEA', second, { flights: 1n })),
    })
    const spine = await uploadSpineOf(other, [
      ['SEA', 5],
      ['SEA', 15],
    ])
    const elsewhere = await createTrainingSet(other, { spineDigest: spine, featureService })
    expect(elsewhere.digest).toBe(first.digest)
    expect(await downloadDataset(other, elsewhere)).toEqual(await downloadDataset(store, first))
  } finally {
    await other.stop()
  }
})

test('a request that names its revision sees no row that came later, whatever created time it claims', async () => {
  await store.client.writeFeatures({ rows: [trafficRow('SEA', 10, { flights: 1n })] })
  const spineDigest = await uploadSpineOf(store, [['SEA', 30]])
  const first = await createTrainingSet(store, { spineDigest, featureService })
  await store.client.writeFeatures({ rows: [trafficRow('SEA', 20, { flights: 2n })] })
  const { revision } = first
  const same = await createTrainingSet(store, { spineDigest, featureService, revision })
  expect(same).toEqual(first)
  const messages: string[] = []
  for await (const { stage } of store.client.createTrainingSet({ spineDigest, featureService, revision }))
    messages.push(stage)
  expect(messages).toEqual(['made before'])
  expect((await createTrainingSet(store, { spineDigest, featureService })).digest).not.toBe(first.digest)
  const ahead = await failureOf(createTrainingSet(store, { spineDigest, featureService, revision: 99n }))
  expect(ahead.violations).toEqual([{ field: 'revision', description: 'the store is at revision 2' }])
})

test('rows that were created at or after the cut-off are not looked at', async () => {
  await store.client.writeFeatures({
    rows: [
      trafficRow('SEA', 10, { flights: 1n }),
      trafficRow('SEA', 11, { flights: 2n }),
      trafficRow('SEA', 12, { flights: 3n }),
    ],
  })
  const spineDigest = await uploadSpineOf(store, [['SEA', 30]])
  const createdBefore = timestampFromMicros(at(12))
  const [row] = await readDataset(store, await createTrainingSet(store, { spineDigest, featureService, createdBefore }))
  expect(row?.flights).toBe(2n)
})

test('a training set from an older version of a view takes no value from the parts of newer ones', async () => {
  const pinned = await store.client.getFeatureService({ name: featureService })
  const view = await store.client.getFeatureView({ name: 'featureViews/traffic' })
  await store.client.updateFeatureView({
    featureView: {
      ...view,
      features: [...view.features, create(FeatureSchema, { name: 'gates', type: ValueType.INT64 })],
    },
  })
  const row = trafficRow('SEA', 10, { flights: 1n })
  await store.client.writeFeatures({ rows: [{ ...row, values: { ...row.values, gates: value.int64(7n) } }] })
  const spineDigest = await uploadSpineOf(store, [['SEA', 30]])
  const request = { spineDigest, featureService, featureServiceDigest: pinned.digest }
  const [old] = await readDataset(store, await createTrainingSet(store, request))
  expect(old).toMatchObject({ flights: 1n })
  expect(old).not.toHaveProperty('gates')
  await store.client.createFeatureService({
    featureService: { name: 'featureServices/gates', features: ['traffic:gates', 'traffic:flights'] },
  })
  const [added] = await readDataset(
    store,
    await createTrainingSet(store, { spineDigest, featureService: 'featureServices/gates' }),
  )
  expect(added).toMatchObject({ gates: 7n, gates__status: 'PRESENT', flights: 1n })
})

test('a wrong spine is refused with the field and what is wrong', async () => {
  const good = `'SEA' as origin, make_timestamp(0) as event_time`
  const refused = async (bytes: Buffer, field: string, description: RegExp, timeColumn = '') => {
    const spineDigest = await uploadSpine(store, bytes)
    const failure = await failureOf(createTrainingSet(store, { spineDigest, featureService, timeColumn }))
    expect(failure.code).toBe(Code.INVALID_ARGUMENT)
    expect(failure.violations).toHaveLength(1)
    expect(failure.violations[0]?.field).toBe(field)
    expect(failure.violations[0]?.description).toMatch(description)
    expect(failure.message).not.toContain(store.directory)
  }
  await refused(Buffer.from('origin,event_time\nSEA,1\n'), 'spine_digest', /not a Parquet file/)
  await refused(
    await parquetOf(`select make_timestamp(0) as event_time`),
    'spine_digest',
    /no column origin, a join key/,
  )
  await refused(
    await parquetOf(`select 1 as origin, make_timestamp(0) as event_time`),
    'spine_digest',
    /origin is VARCHAR, not INTEGER/,
  )
  await refused(await parquetOf(`select 'SEA' as origin`), 'time_column', /no column event_time/)
  await refused(await parquetOf(`select ${good}`), 'time_column', /no column moment/, 'moment')
  await refused(await parquetOf(`select 'SEA' as origin, 5 as event_time`), 'time_column', /is INTEGER, not TIMESTAMP/)
  await refused(await parquetOf(`select 'SEA' as origin, '2001-01-01'::date as event_time`), 'time_column', /is DATE/)
  await refused(
    await parquetOf(`select 'SEA' as origin, null::timestamp as event_time`),
    'time_column',
    /without a time/,
  )
  await refused(
    await parquetOf(`select 'SEA' as origin, 'infinity'::timestamp as event_time`),
    'time_column',
    /without a time/,
  )
  await refused(await parquetOf(`select ${good}, 1 as Flights`), 'spine_digest', /has a column Flights/)
  await refused(await parquetOf(`select ${good}, 1 as __row`), 'spine_digest', /cannot have a column __row/)
  const missing = await failureOf(createTrainingSet(store, { spineDigest: `sha256:${'0'.repeat(64)}`, featureService }))
  expect(missing.violations[0]?.field).toBe('spine_digest')
})

test('times with a zone, of whole seconds, milliseconds and nanoseconds mean the same moments', async () => {
  await store.client.writeFeatures({ rows: [trafficRow('SEA', 10, { flights: 1n })] })
  const second = at(10)
  for (const time of [
    `make_timestamp(${second})::timestamptz`,
    `make_timestamp(${second})::timestamp_s`,
    `make_timestamp(${second})::timestamp_ms`,
    `make_timestamp_ns(${second * 1000n})`,
    `make_timestamp_ns(${second * 1000n + 999n})`,
  ]) {
    const bytes = await parquetOf(`select 'SEA' as origin, ${time} as event_time`)
    const spineDigest = await uploadSpine(store, bytes)
    const [row] = await readDataset(store, await createTrainingSet(store, { spineDigest, featureService }))
    expect([time, row?.flights]).toEqual([time, 1n])
  }
  const before = await parquetOf(`select 'SEA' as origin, make_timestamp_ns(${second * 1000n - 1n}) as event_time`)
  const spineDigest = await uploadSpine(store, before)
  const [row] = await readDataset(store, await createTrainingSet(store, { spineDigest, featureService }))
  expect(row?.flights__status).toBe('NOT_FOUND')
})

test('a spine row without a key finds nothing and stays', async () => {
  await store.client.writeFeatures({ rows: [trafficRow('SEA', 10, { flights: 1n })] })
  const bytes = await parquetOf(`select null::varchar as origin, make_timestamp(${at(20)}) as event_time`)
  const spineDigest = await uploadSpine(store, bytes)
  const rows = await readDataset(store, await createTrainingSet(store, { spineDigest, featureService }))
  expect(rows).toMatchObject([{ origin: null, flights: null, flights__status: 'NOT_FOUND' }])
})

test('datasets are listed newest first, each once, and a token of another list is refused', async () => {
  await store.client.writeFeatures({ rows: [trafficRow('SEA', 10, { flights: 1n })] })
  const made: string[] = []
  for (let second = 0; second < 3; second++) {
    const spineDigest = await uploadSpineOf(store, [['SEA', second]])
    made.unshift((await createTrainingSet(store, { spineDigest, featureService })).name)
  }
  const listed: string[] = []
  let pageToken = ''
  do {
    const page = await store.client.listDatasets({ pageSize: 2, pageToken })
    listed.push(...page.datasets.map(({ name }) => name))
    pageToken = page.nextPageToken
  } while (pageToken !== '')
  expect(listed).toEqual(made)
  const failure = await failureOf(store.client.listDatasets({ pageToken: Buffer.from('x').toString('base64url') }))
  expect(failure.violations[0]?.field).toBe('page_token')
})

test('a download goes on from an offset, and says how large the file is at its end', async () => {
  const spineDigest = await uploadSpineOf(store, [['SEA', 1]])
  const dataset = await createTrainingSet(store, { spineDigest, featureService })
  const whole = await downloadDataset(store, dataset)
  const [file] = dataset.files
  const read = async (offset: bigint) => {
    const chunks: Uint8Array[] = []
    const request = { name: dataset.name, path: file?.path ?? '', offset }
    for await (const { chunk, sizeBytes } of store.client.downloadDataset(request)) {
      expect(sizeBytes).toBe(BigInt(whole.length))
      chunks.push(chunk)
    }
    return Buffer.concat(chunks)
  }
  expect(await read(100n)).toEqual(whole.subarray(100))
  expect(await read(BigInt(whole.length))).toEqual(Buffer.alloc(0))
  expect((await failureOf(read(BigInt(whole.length) + 1n))).code).toBe(Code.OUT_OF_RANGE)
  const other = await failureOf(
    (async () => {
      for await (const _ of store.client.downloadDataset({ name: dataset.name, path: 'other' }));
    })(),
  )
  expect(other.code).toBe(Code.NOT_FOUND)
})

test('a call that is cancelled stops the work, leaves nothing, and the same request can be made again', async () => {
  await store.client.writeFeatures({ rows: [trafficRow('SEA', 10, { flights: 1n })] })
  const bytes = await parquetOf(
    `select 'SEA' as origin, make_timestamp(r) as event_time, random() as x from range(100000) t(r)`,
  )
  const spineDigest = await uploadSpine(store, bytes)
  const controller = new AbortController()
  const cancelled = await failureOf(
    (async () => {
      const call = store.client.createTrainingSet({ spineDigest, featureService }, { signal: controller.signal })
      for await (const { stage } of call) if (stage !== 'collecting rows') controller.abort()
    })(),
  )
  expect(cancelled.code).toBe(Code.CANCELLED)
  await expect.poll(() => readdirSync(join(store.directory, 'feature-store', 'work'))).toEqual(['duckdb'])
  expect((await store.client.listDatasets({})).datasets).toEqual([])
  expect((await createTrainingSet(store, { spineDigest, featureService })).rowCount).toBe(100_000n)
})

test('datasets that were made in the same microsecond are listed once each, page by page', async () => {
  const names: string[] = []
  for (let second = 0; second < 5; second++) {
    const spineDigest = await uploadSpineOf(store, [['SEA', second]])
    names.push((await createTrainingSet(store, { spineDigest, featureService })).name)
  }
  await store.restart(async () => {
    const database = new DatabaseSync(join(store.directory, 'feature-store', 'definitions.db'))
    database.exec('update datasets set create_micros = 1')
    database.close()
  })
  const listed: string[] = []
  let pageToken = ''
  do {
    const page = await store.client.listDatasets({ pageSize: 2, pageToken })
    listed.push(...page.datasets.map(({ name }) => name))
    pageToken = page.nextPageToken
  } while (pageToken !== '')
  expect(listed).toEqual(names.sort())
})

test('values of all types come out of a training set as they went in', async () => {
  const types = ['BOOL', 'INT64', 'DOUBLE', 'STRING', 'BYTES', 'TIMESTAMP'] as const
  await store.client.createEntity({ entity: { name: 'entities/id', joinKey: 'id', type: ValueType.INT64 } })
  await store.client.createFeatureView({
    featureView: {
      name: 'featureViews/all',
      entities: ['entities/id'],
      features: types.map((type) => ({ name: `f_${type.toLowerCase()}`, type: ValueType[type] })),
    },
  })
  const names = types.map((type) => `all:f_${type.toLowerCase()}`)
  await store.client.createFeatureService({ featureService: { name: 'featureServices/all', features: names } })
  const row = (id: bigint, values: Record<string, Value>): RowInit => {
    const eventTime = timestampFromMicros(-10n)
    return {
      featureView: 'featureViews/all',
      entityKeys: { id: value.int64(id) },
      eventTime,
      createdTime: eventTime,
      values,
    }
  }
  const large = 2n ** 53n + 1n
  const full = {
    f_bool: value.bool(false),
    f_int64: value.int64(-(2n ** 63n)),
    f_double: value.double(Number.NaN),
    f_string: value.text("Zürich '✈'"),
    f_bytes: value.bytes(new Uint8Array([0, 255])),
    f_timestamp: value.time(-1n),
  }
  await store.client.writeFeatures({ rows: [row(large, full), row(large - 1n, {})] })
  const spineDigest = await uploadSpine(
    store,
    await parquetOf(`select id, make_timestamp(-10) as event_time from (values (${large}), (${large - 1n})) t(id)`),
  )
  const dataset = await createTrainingSet(store, { spineDigest, featureService: 'featureServices/all' })
  const [found, empty] = await readDataset(store, dataset)
  expect(found).toMatchObject({
    id: large,
    f_bool: false,
    f_int64: -(2n ** 63n),
    f_double: Number.NaN,
    f_string: "Zürich '✈'",
    f_timestamp__status: 'PRESENT',
  })
  expect(Array.from((found?.f_bytes ?? []) as Uint8Array)).toEqual([0, 255])
  expect(empty).toMatchObject({
    id: large - 1n,
    f_bool: null,
    f_bool__status: 'NULL_VALUE',
    f_bytes__status: 'NULL_VALUE',
  })
})

test('an empty spine gives an empty training set with all columns', async () => {
  const bytes = await parquetOf(`select 'SEA' as origin, make_timestamp(0) as event_time where false`)
  const spineDigest = await uploadSpine(store, bytes)
  expect((await createTrainingSet(store, { spineDigest, featureService })).rowCount).toBe(0n)
})

test('more training sets at once than are allowed are refused, with the time to wait', async () => {
  await store.client.writeFeatures({ rows: [trafficRow('SEA', 10, { flights: 1n })] })
  const spineDigest = await uploadSpineOf(store, [['SEA', 20]])
  const all = await Promise.allSettled(
    Array.from({ length: maxMaking + 2 }, () => createTrainingSet(store, { spineDigest, featureService })),
  )
  const refused = all.flatMap((one) => (one.status === 'rejected' ? [one.reason as Failure] : []))
  expect(refused.length).toBeGreaterThan(0)
  expect(refused[0]).toMatchObject({ code: Code.RESOURCE_EXHAUSTED, retryAfterMs: 5000 })
})
