/** What a process that was killed half-way left behind goes at the next start, and nothing else. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import {
  createTrainingSet,
  defineTraffic,
  readDataset,
  startTestStore,
  type TestStore,
  trafficRow,
  uploadSpineOf,
} from './store.fixture.ts'

const featureService = 'featureServices/late'
let store: TestStore

beforeEach(async () => {
  store = await startTestStore()
  await defineTraffic(store)
  await store.client.writeFeatures({ rows: [trafficRow('SEA', 10, { flights: 1n })] })
})
afterEach(() => store.stop())

const inData = (...parts: string[]) => join(store.directory, 'feature-store', ...parts)

test('files in the making and parts without a record go, recorded parts stay', async () => {
  const spineDigest = await uploadSpineOf(store, [['SEA', 20]])
  await createTrainingSet(store, { spineDigest, featureService })
  const recorded = readdirSync(inData('parts'))
  expect(recorded).toHaveLength(1)
  await store.restart(async () => {
    mkdirSync(inData('work', 'dataset-x'), { recursive: true })
    writeFileSync(inData('work', 'dataset-x', 'spine.parquet'), 'x')
    writeFileSync(inData('parts', '1-2-9.parquet'), 'x')
    writeFileSync(inData('parts', '1-2-9.parquet.77.part'), 'x')
  })
  expect(readdirSync(inData('parts'))).toEqual(recorded)
  expect(readdirSync(inData('work'))).toEqual(['duckdb'])
  const [row] = await readDataset(store, await createTrainingSet(store, { spineDigest, featureService }))
  expect(row?.flights).toBe(1n)
})

test('rows of a view whose removal broke off go', async () => {
  const spineDigest = await uploadSpineOf(store, [['SEA', 20]])
  await createTrainingSet(store, { spineDigest, featureService })
  await store.client.deleteFeatureService({ name: featureService })
  await store.restart(async () => {
    const definitions = new DatabaseSync(inData('definitions.db'))
    definitions.exec('delete from feature_views; delete from feature_view_versions')
    definitions.close()
  })
  expect(readdirSync(inData('parts'))).toEqual([])
  const rows = new DatabaseSync(inData('rows.db'), { readOnly: true })
  for (const table of ['online_rows', 'tables', 'journal', 'parts']) {
    expect(rows.prepare(`select count(*) as count from ${table}`).get()).toEqual({ count: 0 })
  }
  rows.close()
  await defineTraffic(store)
  expect((await createTrainingSet(store, { spineDigest, featureService })).rowCount).toBe(1n)
})

test('a process with wrong settings names them all and exits with 2', () => {
  const { status, stderr } = spawnSync(process.execPath, [fileURLToPath(new URL('./main.ts', import.meta.url))], {
    encoding: 'utf8',
    env: { ...process.env, SLIPWAY_LISTEN: 'nowhere', SLIPWAY_FEATURE_STORE_THREADS: '0' },
  })
  expect(status).toBe(2)
  expect(stderr).toContain('SLIPWAY_LISTEN')
  expect(stderr).toContain('SLIPWAY_FEATURE_STORE_THREADS')
})
