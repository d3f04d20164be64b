import { create } from '@bufbuild/protobuf'
import { DurationSchema } from '@bufbuild/protobuf/wkt'
import { AsOf, WriteOutcome } from '@slipway/proto/slipway/features/v1/feature_store_service'
import { FeatureSchema } from '@slipway/proto/slipway/features/v1/feature_view'
import { FeatureStatus, ValueType } from '@slipway/proto/slipway/features/v1/value'
import { timestampFromMicros } from '@slipway/resources'
import { Code, type Failure } from '@slipway/rpc'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { maxReadValues } from './reads.ts'
import { at, defineTraffic, startTestStore, type TestStore, trafficRow, value } from './store.fixture.ts'

const featureService = 'featureServices/late'
const viewName = 'featureViews/traffic'
let store: TestStore

beforeEach(async () => {
  store = await startTestStore()
})
afterEach(() => store.stop())

const failureOf = async (work: Promise<unknown>): Promise<Failure> =>
  await work.then(
    () => Promise.reject(new Error('did not fail')),
    (error: Failure) => error,
  )

const airport = { name: 'entities/airport', joinKey: 'origin', type: ValueType.STRING }
const sea = { keys: { origin: value.text('SEA') } }
const asOf = (second: number) => timestampFromMicros(at(second))

async function readAt(second: number, more: { visibility?: AsOf; includeStale?: boolean } = {}) {
  const selection = { case: 'featureService' as const, value: featureService }
  const answer = await store.client.getOnlineFeatures({ selection, entityRows: [sea], asOf: asOf(second), ...more })
  const [vector] = answer.vectors
  const [status] = vector?.statuses ?? []
  return { status, flights: vector?.int64s[0], eventMicros: vector?.eventTimesMicros[0] }
}

describe('definitions', () => {
  test('creating the same again answers the first, something else is ALREADY_EXISTS', async () => {
    const first = await store.client.createEntity({ entity: airport })
    expect(await store.client.createEntity({ entity: { ...airport, description: 'other words' } })).toEqual(first)
    const taken = await failureOf(store.client.createEntity({ entity: { ...airport, type: ValueType.INT64 } }))
    expect(taken).toMatchObject({ code: Code.ALREADY_EXISTS, reason: 'DEFINED_OTHERWISE' })
    await defineTraffic(store)
    const view = await store.client.getFeatureView({ name: viewName })
    expect(await store.client.createFeatureView({ featureView: view })).toEqual(view)
    const changed = { ...view, features: view.features.slice(0, 1) }
    expect((await failureOf(store.client.createFeatureView({ featureView: changed }))).code).toBe(Code.ALREADY_EXISTS)
  })

  test('a wrong definition is refused with the field', async () => {
    const violations = async (work: Promise<unknown>) => (await failureOf(work)).violations.map(({ field }) => field)
    expect(await violations(store.client.createEntity({ entity: { ...airport, name: 'airport' } }))).toEqual([
      'entity.name',
    ])
    expect(await violations(store.client.createEntity({ entity: { ...airport, type: ValueType.DOUBLE } }))).toEqual([
      'entity.type',
    ])
    expect(await violations(store.client.createEntity({}))).toEqual(['entity'])
    const view = { name: viewName, entities: ['entities/none'], features: [{ name: 'x', type: ValueType.INT64 }] }
    expect(await violations(store.client.createFeatureView({ featureView: view }))).toEqual([
      'feature_view.entities[0]',
    ])
    await store.client.createEntity({ entity: airport })
    const own = { ...view, entities: ['entities/airport'] }
    const twice = { ...own, features: [{ name: 'origin', type: ValueType.INT64 }] }
    expect(await violations(store.client.createFeatureView({ featureView: twice }))).toEqual(['feature_view.features'])
    const short = { ...own, ttl: { nanos: 999 } }
    expect(await violations(store.client.createFeatureView({ featureView: short }))).toEqual(['feature_view.ttl'])
    await store.client.createFeatureView({ featureView: own })
    const service = { name: featureService, features: ['traffic:x', 'traffic:y'] }
    expect(await violations(store.client.createFeatureService({ featureService: service }))).toEqual([
      'feature_service.features[1]',
    ])
  })

  test('features of one name in a training set are refused, of two views they are told apart', async () => {
    await store.client.createEntity({ entity: airport })
    const view = (id: string, features: string[]) =>
      store.client.createFeatureView({
        featureView: {
          name: `featureViews/${id}`,
          entities: ['entities/airport'],
          features: features.map((name) => ({ name, type: ValueType.INT64 })),
        },
      })
    await view('a', ['x', 'x__status'])
    await view('b', ['x'])
    const clash = { name: featureService, features: ['a:x', 'a:x__status'] }
    const failure = await failureOf(store.client.createFeatureService({ featureService: clash }))
    expect(failure.violations[0]?.field).toBe('feature_service.features[1]')
    await store.client.createFeatureService({ featureService: { name: featureService, features: ['a:x', 'b:x'] } })
  })

  test('a change of ttl and a new feature make versions; who pinned an old one keeps it', async () => {
    await defineTraffic(store)
    await store.client.writeFeatures({ rows: [trafficRow('SEA', 0, { flights: 1n })] })
    const pinned = await store.client.getFeatureService({ name: featureService })
    const before = await store.client.getFeatureView({ name: viewName })
    const features = [...before.features, create(FeatureSchema, { name: 'gates', type: ValueType.INT64 })]
    const ttl = create(DurationSchema, { seconds: 5n })
    const after = await store.client.updateFeatureView({ featureView: { ...before, features, ttl } })
    expect(after.digest).not.toBe(before.digest)
    expect(await store.client.getFeatureView({ name: viewName, digest: before.digest })).toEqual(before)
    expect((await readAt(100)).status).toBe(FeatureStatus.PRESENT)
    const moved = await store.client.updateFeatureService({ featureService: pinned })
    expect(moved.digest).not.toBe(pinned.digest)
    expect(moved.viewDigests).toEqual({ traffic: after.digest })
    expect((await readAt(100)).status).toBe(FeatureStatus.OUTSIDE_MAX_AGE)
    await store.restart()
    expect((await readAt(100)).status).toBe(FeatureStatus.OUTSIDE_MAX_AGE)
    const selection = { case: 'featureService' as const, value: featureService }
    const old = { selection, featureServiceDigest: pinned.digest, entityRows: [sea], asOf: asOf(100) }
    const answer = await store.client.getOnlineFeatures(old)
    expect(answer.featureServiceDigest).toBe(pinned.digest)
    expect(answer.vectors[0]?.statuses[0]).toBe(FeatureStatus.PRESENT)
    const unknown = { ...old, featureServiceDigest: `sha256:${'0'.repeat(64)}` }
    expect(await failureOf(store.client.getOnlineFeatures(unknown))).toMatchObject({
      code: Code.FAILED_PRECONDITION,
      reason: 'FEATURE_SERVICE_MISMATCH',
    })
  })

  test('names, types and keys of a view never change', async () => {
    await defineTraffic(store)
    const view = await store.client.getFeatureView({ name: viewName })
    const [first, second] = view.features
    if (first === undefined || second === undefined) throw new Error('two features')
    for (const features of [[second, first], [first], [first, { ...second, type: ValueType.INT64 }]]) {
      const failure = await failureOf(store.client.updateFeatureView({ featureView: { ...view, features } }))
      expect(failure).toMatchObject({ code: Code.FAILED_PRECONDITION, reason: 'UNCHANGEABLE' })
    }
    const mask = { featureView: view, updateMask: { paths: ['entities'] } }
    expect((await failureOf(store.client.updateFeatureView(mask))).violations[0]?.field).toBe('update_mask')
  })

  test('a stale etag is ABORTED and changes nothing; of two changes at once one wins', async () => {
    await defineTraffic(store)
    const view = await store.client.getFeatureView({ name: viewName })
    const change = (description: string) => store.client.updateFeatureView({ featureView: { ...view, description } })
    const settled = await Promise.allSettled(['a', 'b', 'c'].map(change))
    expect(settled.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    const refused = settled.find(({ status }) => status === 'rejected')
    expect(refused).toMatchObject({ reason: { code: Code.ABORTED, reason: 'STALE_ETAG' } })
    const kept = await store.client.getFeatureView({ name: viewName })
    expect((await failureOf(store.client.deleteFeatureService({ name: featureService, etag: 'x' }))).code).toBe(
      Code.ABORTED,
    )
    expect(await store.client.getFeatureView({ name: viewName })).toEqual(kept)
    expect(kept.digest).toBe(view.digest)
  })

  test('one view of many that are created at once keeps its rows over a restart', async () => {
    await store.client.createEntity({ entity: airport })
    const featureView = {
      name: viewName,
      entities: ['entities/airport'],
      features: [{ name: 'flights', type: ValueType.INT64 }],
    }
    const created = await Promise.all(Array.from({ length: 8 }, () => store.client.createFeatureView({ featureView })))
    for (const view of created) expect(view).toEqual(created[0])
    await store.client.createFeatureService({ featureService: { name: featureService, features: ['traffic:flights'] } })
    await store.client.writeFeatures({ rows: [trafficRow('SEA', 0, { flights: 1n })] })
    await store.restart()
    expect(await readAt(1)).toMatchObject({ status: FeatureStatus.PRESENT, flights: 1n })
  })

  test('what is used stays, and a view that an old version of a service has is used', async () => {
    await defineTraffic(store)
    const inUse = { code: Code.FAILED_PRECONDITION, reason: 'IN_USE' }
    expect(await failureOf(store.client.deleteEntity({ name: airport.name }))).toMatchObject(inUse)
    expect(await failureOf(store.client.deleteFeatureView({ name: viewName }))).toMatchObject(inUse)
    const featureView = {
      name: 'featureViews/more',
      entities: [airport.name],
      features: [{ name: 'x', type: ValueType.INT64 }],
    }
    await store.client.createFeatureView({ featureView })
    await store.client.updateFeatureService({ featureService: { name: featureService, features: ['more:x'] } })
    expect(await failureOf(store.client.deleteFeatureView({ name: viewName }))).toMatchObject(inUse)
    await store.restart()
    expect((await store.client.getFeatureService({ name: featureService })).features).toEqual(['more:x'])
  })

  test('a view that is removed takes its rows with it; another one of its name begins empty', async () => {
    await defineTraffic(store)
    await store.client.writeFeatures({ rows: [trafficRow('SEA', 0, { flights: 1n })] })
    await store.client.deleteFeatureService({ name: featureService })
    await store.client.deleteFeatureView({ name: viewName })
    expect((await failureOf(store.client.getFeatureView({ name: viewName }))).code).toBe(Code.NOT_FOUND)
    const { rejected } = await store.client.writeFeatures({ rows: [trafficRow('SEA', 0, { flights: 1n })] })
    expect(rejected).toMatchObject([{ field: 'feature_view', code: 'UNKNOWN_VIEW' }])
    await defineTraffic(store)
    expect((await readAt(1)).status).toBe(FeatureStatus.NOT_FOUND)
  })

  test('lists come in pages, each item once', async () => {
    const names = Array.from({ length: 5 }, (_, index) => `entities/e${index}`)
    for (const name of names.toReversed()) await store.client.createEntity({ entity: { ...airport, name } })
    const listed: string[] = []
    let pageToken = ''
    do {
      const page = await store.client.listEntities({ pageSize: 2, pageToken })
      listed.push(...page.entities.map(({ name }) => name))
      pageToken = page.nextPageToken
    } while (pageToken !== '')
    expect(listed).toEqual(names)
    expect((await failureOf(store.client.listEntities({ pageToken: '?' }))).violations[0]?.field).toBe('page_token')
    expect((await failureOf(store.client.listEntities({ pageSize: 1001 }))).violations[0]?.field).toBe('page_size')
  })
})

describe('writes', () => {
  beforeEach(() => defineTraffic(store))

  test('each row is judged by itself: the good ones are kept, the others are named with field and rule', async () => {
    const good = trafficRow('SEA', 10, { flights: 1n })
    const answer = await store.client.writeFeatures({
      rows: [
        { ...good, entityKeys: {} },
        good,
        { ...good, values: { delay: value.int64(2n ** 53n + 1n) } },
        good,
        trafficRow('SEA', 5, { flights: 5n }),
        { ...good, values: { flights: value.int64(9n) } },
      ],
    })
    expect(answer).toMatchObject({ appliedCount: 1, staleCount: 1, duplicateCount: 1 })
    expect(answer.rejected.map(({ index, field, code }) => [index, field, code])).toEqual([
      [0, 'entity_keys.origin', 'NULL_KEY'],
      [2, 'values.delay', 'LOSSY_CAST'],
      [5, 'sequence', 'CONFLICT'],
    ])
    expect(answer.rejected[1]?.reason).toMatch(/^values\.delay: .*2\^53/)
    const { APPLIED, DUPLICATE, REJECTED, STALE } = WriteOutcome
    expect(answer.outcomes).toEqual([REJECTED, APPLIED, REJECTED, DUPLICATE, STALE, REJECTED])
    expect(await readAt(11)).toMatchObject({ flights: 1n })
  })

  test('what was written is read at once, without times of its own too', async () => {
    const row = {
      ...trafficRow('SEA', 0, { flights: 7n }),
      createdTime: undefined as never,
      sequence: undefined as never,
    }
    const { createdTime: _, sequence: __, ...bare } = row
    for (let flights = 1n; flights <= 20n; flights++) {
      await store.client.writeFeatures({ rows: [{ ...bare, values: { flights: value.int64(flights) } }] })
      const selection = { case: 'features' as const, value: { features: ['traffic:flights'] } }
      const { vectors } = await store.client.getOnlineFeatures({ selection, entityRows: [sea] })
      expect(vectors[0]?.int64s).toEqual([flights])
    }
  })

  test('a stream answers every batch in order', async () => {
    async function* batches() {
      for (let second = 1; second <= 5; second++)
        yield { rows: [trafficRow('SEA', second, { flights: BigInt(second) })] }
      yield { rows: [trafficRow('SEA', 3, { flights: 3n })] }
    }
    const outcomes: string[] = []
    for await (const { result } of store.client.streamWriteFeatures(batches())) {
      outcomes.push(`${result?.appliedCount} ${result?.duplicateCount}`)
    }
    expect(outcomes).toEqual(['1 0', '1 0', '1 0', '1 0', '1 0', '0 1'])
  })

  test('more rows than a request may have are refused as a whole', async () => {
    const rows = Array.from({ length: 10_001 }, (_, second) => trafficRow('SEA', second, {}))
    expect((await failureOf(store.client.writeFeatures({ rows }))).violations[0]?.field).toBe('rows')
    expect((await failureOf(store.client.writeFeatures({}))).violations[0]?.field).toBe('rows')
  })
})

describe('online reads', () => {
  test('the statuses are those of the table, to the microsecond', async () => {
    await defineTraffic(store, 10)
    await store.client.writeFeatures({
      rows: [
        trafficRow('SEA', 0, { flights: 1n }),
        { ...trafficRow('SEA', 100, {}), deleted: true },
        trafficRow('SEA', 200, { flights: 2n }),
        trafficRow('SEA', 201, {}),
      ],
    })
    const { NOT_FOUND, NULL_VALUE, OUTSIDE_MAX_AGE, PRESENT } = FeatureStatus
    expect(await readAt(-1)).toEqual({ status: NOT_FOUND, flights: 0n, eventMicros: 0n })
    expect(await readAt(0)).toEqual({ status: PRESENT, flights: 1n, eventMicros: at(0) })
    expect(await readAt(9.999999)).toEqual({ status: PRESENT, flights: 1n, eventMicros: at(0) })
    expect(await readAt(10)).toEqual({ status: PRESENT, flights: 1n, eventMicros: at(0) })
    expect(await readAt(10.000001)).toEqual({ status: OUTSIDE_MAX_AGE, flights: 0n, eventMicros: at(0) })
    expect(await readAt(10.000001, { includeStale: true })).toEqual({
      status: OUTSIDE_MAX_AGE,
      flights: 1n,
      eventMicros: at(0),
    })
    expect(await readAt(100)).toEqual({ status: NOT_FOUND, flights: 0n, eventMicros: 0n })
    expect(await readAt(200)).toEqual({ status: PRESENT, flights: 2n, eventMicros: at(200) })
    expect(await readAt(201)).toEqual({ status: NULL_VALUE, flights: 0n, eventMicros: at(201) })
    expect(await readAt(212)).toEqual({ status: OUTSIDE_MAX_AGE, flights: 0n, eventMicros: at(201) })
  })

  test('what became known later is not seen, unless it is asked for by event time', async () => {
    await defineTraffic(store)
    await store.client.writeFeatures({
      rows: [trafficRow('SEA', 10, { flights: 1n }), trafficRow('SEA', 10, { flights: 2n }, 50)],
    })
    expect(await readAt(49)).toMatchObject({ flights: 1n })
    expect(await readAt(50)).toMatchObject({ flights: 2n })
    expect(await readAt(49, { visibility: AsOf.EVENT })).toMatchObject({ flights: 2n })
  })

  test('columns of all types are packed in their order', async () => {
    await store.client.createEntity({ entity: { ...airport, type: ValueType.INT64 } })
    const types = ['BOOL', 'INT64', 'DOUBLE', 'STRING', 'BYTES', 'TIMESTAMP'] as const
    await store.client.createFeatureView({
      featureView: {
        name: viewName,
        entities: [airport.name],
        features: types.map((type) => ({ name: type.toLowerCase(), type: ValueType[type] })),
      },
    })
    const origin = value.int64(2n ** 53n + 1n)
    await store.client.writeFeatures({
      rows: [
        {
          featureView: viewName,
          entityKeys: { origin },
          eventTime: asOf(0),
          values: {
            bool: value.bool(true),
            int64: value.int64(-(2n ** 63n)),
            double: value.double(Number.NEGATIVE_INFINITY),
            string: value.text('Zürich'),
            bytes: value.bytes(new Uint8Array([1, 0, 2])),
            timestamp: value.time(-1n),
          },
        },
      ],
    })
    const features = ['timestamp', 'bytes', 'string', 'double', 'int64', 'bool'].map((name) => `traffic:${name}`)
    const answer = await store.client.getOnlineFeatures({
      selection: { case: 'features', value: { features } },
      entityRows: [{ keys: { origin: value.int64(2n ** 53n) } }, { keys: { origin } }],
    })
    expect(answer.features).toEqual(features)
    expect(answer.vectors.map(({ statuses }) => new Set(statuses))).toEqual([
      new Set([FeatureStatus.NOT_FOUND]),
      new Set([FeatureStatus.PRESENT]),
    ])
    expect(answer.vectors[0]).toMatchObject({ doubles: [Number.NaN], int64s: [0n, 0n, 0n], strings: [''] })
    expect(answer.vectors[1]).toMatchObject({
      doubles: [Number.NEGATIVE_INFINITY],
      int64s: [-1n, -(2n ** 63n), 1n],
      strings: ['Zürich'],
    })
    expect([...(answer.vectors[1]?.bytesValues[0] ?? [])]).toEqual([1, 0, 2])
  })

  test('a wrong request names its field', async () => {
    await defineTraffic(store)
    const selection = { case: 'featureService' as const, value: featureService }
    const field = async (request: Parameters<typeof store.client.getOnlineFeatures>[0]) =>
      (await failureOf(store.client.getOnlineFeatures(request))).violations[0]?.field
    expect(await field({ selection, entityRows: [] })).toBe('entity_rows')
    expect(await field({ selection, entityRows: [sea, { keys: { origin: value.int64(1n) } }] })).toBe(
      'entity_rows[1].keys.origin',
    )
    expect(await field({ selection, entityRows: [{ keys: { other: value.int64(1n) } }] })).toBe(
      'entity_rows[0].keys.origin',
    )
    expect(await field({ entityRows: [sea] })).toBe('selection')
    expect(await field({ selection, entityRows: [sea], asOf: { seconds: 10n ** 15n } })).toBe('as_of')
    const features = ['traffic:flights', 'traffic:none']
    expect(await field({ selection: { case: 'features', value: { features } }, entityRows: [sea] })).toBe(
      'features.features[1]',
    )
    const many = Array.from({ length: 4096 }, () => 'traffic:flights')
    const entityRows = Array.from({ length: maxReadValues / many.length + 1 }, () => sea)
    expect(await field({ selection: { case: 'features', value: { features: many } }, entityRows })).toBe('entity_rows')
    const none = { selection: { case: 'featureService' as const, value: 'featureServices/none' }, entityRows: [sea] }
    expect((await failureOf(store.client.getOnlineFeatures(none))).code).toBe(Code.NOT_FOUND)
  })
})
