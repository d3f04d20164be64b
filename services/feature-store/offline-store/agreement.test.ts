/**
 * The property that the feature store is for: an online read as of T and a training set agree in value, status and time.
 * Cases are many, so all of one run are asked in two joins, each case as an entity of its own.
 */
import { randomInt } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FeatureStatus } from '@slipway/proto/slipway/features/v1/value'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { FeatureColumn } from '../feature-services.ts'
import { Journal } from '../journal.ts'
import { openRowTables } from '../online-store/row-tables.ts'
import { SqliteOnlineStore } from '../online-store/sqlite.ts'
import { Parts } from '../parts.ts'
import { readOnline } from '../reads.ts'
import type { Visibility } from '../rule.ts'
import { query, value } from '../store.fixture.ts'
import {
  type Answer,
  anyCase,
  type Case,
  checkedRow,
  ruleAnswers,
  textOf,
  viewOf,
  visibilities,
} from './agreement.fixture.ts'
import { openDuckDbOfflineStore } from './duckdb.ts'
import type { OfflineStore } from './offline-store.ts'

const runs = 10_000
const seed = Number(process.env.SLIPWAY_TEST_SEED ?? randomInt(2 ** 31))
const names = ['whole', 'real'] as const
/** Views of the cases: one for each ttl that occurs. */
const ttls = [undefined, 1n, 2n, 3n, 4n, 5n]

let directory: string
let offline: OfflineStore
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'slipway-agreement-'))
  offline = openDuckDbOfflineStore({ threads: 2, memoryMiB: 512, tempDirectory: join(directory, 'duckdb') })
})
afterAll(async () => {
  await offline.close()
  rmSync(directory, { recursive: true, force: true })
})

/** Everything that was written, in the stores of the service, and the questions. */
interface World {
  readonly online: SqliteOnlineStore
  readonly parts: Parts
  readonly cases: readonly Case[]
  readonly close: () => void
}

async function writeAll(cases: readonly Case[]): Promise<World> {
  const folder = mkdtempSync(join(directory, 'world-'))
  const databasePath = join(folder, 'rows.db')
  const database = await openRowTables(databasePath)
  database.exec('PRAGMA synchronous = OFF')
  const journal = new Journal(database)
  const online = new SqliteOnlineStore({ database, journal })
  const views = ttls.map((ttlMicros, index) => viewOf(index + 1, ttlMicros))
  const parts = new Parts({
    journal,
    offline,
    databasePath,
    directory: join(folder, 'parts'),
    views: () => views,
    flushRows: 1,
    onError: () => undefined,
  })
  // All first rows, then all second ones: the parts of a view split the histories of its entities.
  for (let turn = 0; turn < 8; turn++) {
    for (const [index, ttlMicros] of ttls.entries()) {
      const rows = cases.flatMap((each, entity) => {
        const row = each.ttlMicros === ttlMicros ? each.rows[turn] : undefined
        return row === undefined ? [] : [checkedRow(BigInt(entity), row)]
      })
      if (rows.length > 0) await online.write(index + 1, rows, 0n)
    }
    if (turn % 3 === 1) await parts.complete(views.map(({ tableId }) => tableId))
  }
  return { online, parts, cases, close: () => database.close() }
}

const statusNames = new Map<number, string>(Object.entries(FeatureStatus).map(([name, status]) => [status, name]))

/** Answers by place: each case's times in order, each with its features. */
async function onlineAnswers({ online, cases }: World, visibility: Visibility): Promise<Answer[]> {
  const columns = ttls.map((ttlMicros, index): FeatureColumn[] => {
    const view = viewOf(index + 1, ttlMicros)
    return view.features.map(({ name, type }, place) => ({ reference: name, view, index: place, name, type }))
  })
  const answers: Answer[] = []
  for (const [entity, { ttlMicros, times }] of cases.entries()) {
    for (const timeMicros of times) {
      const [vector] = await readOnline(online, {
        columns: columns[ttls.indexOf(ttlMicros)] ?? [],
        entityRows: [{ keys: { entity: value.int64(BigInt(entity)) } }],
        timeMicros,
        visibility,
        includeStale: false,
      })
      for (const place of [0, 1]) {
        const status = statusNames.get(vector?.statuses?.[place] ?? 0) ?? ''
        const found = place === 0 ? vector?.int64s?.[0] : vector?.doubles?.[0]
        const eventMicros = status === 'NOT_FOUND' ? undefined : BigInt(vector?.eventTimesMicros?.[place] ?? 0)
        answers.push({
          status,
          value: status === 'PRESENT' && found !== undefined ? (found as bigint) : null,
          eventMicros,
        })
      }
    }
  }
  return answers
}

/** The same answers from a training set of all views. */
async function offlineAnswers(world: World, visibility: Visibility): Promise<Answer[]> {
  const folder = mkdtempSync(join(directory, 'join-'))
  mkdirSync(folder, { recursive: true })
  const spinePath = join(folder, 'spine.parquet')
  const outputPath = join(folder, 'set.parquet')
  const asked = world.cases.flatMap(({ times }, entity) => times.map((time) => `(${entity}, ${time})`))
  await query(
    `copy (select e::bigint as entity, make_timestamp(t::bigint) as event_time from (values ${asked.join(', ')}) v(e, t))
     to '${spinePath}' (format parquet)`,
  )
  const views = ttls.map((ttlMicros, index) => viewOf(index + 1, ttlMicros))
  const history = await world.parts.complete(views.map(({ tableId }) => tableId))
  const columns = views.flatMap(({ tableId }) =>
    names.map((name, index) => ({ tableId, index, name: `v${tableId}_${name}` })),
  )
  await offline.join(
    {
      spinePath,
      timeColumn: 'event_time',
      views,
      partsDirectory: world.parts.directory,
      parts: history.parts,
      columns,
      visibility,
      createdBeforeMicros: 2n ** 63n - 1n,
      revision: history.revision,
      includeTimes: true,
      outputPath,
    },
    { onProgress: () => undefined, signal: new AbortController().signal },
  )
  const times = columns.map(({ name }) => `epoch_us(${name}__event_time) as ${name}__event_time`)
  const rows = await query(`select * replace (${times.join(', ')}) from '${outputPath}'`)
  return rows.flatMap((row) => {
    const { ttlMicros } = world.cases[Number(row.entity)] ?? {}
    const tableId = ttls.indexOf(ttlMicros) + 1
    return names.map((name) => ({
      status: String(row[`v${tableId}_${name}__status`]),
      value: row[`v${tableId}_${name}`] as bigint | null,
      eventMicros: (row[`v${tableId}_${name}__event_time`] as bigint | null) ?? undefined,
    }))
  })
}

describe(`online reads and training sets (seed ${seed})`, () => {
  test(`agree in value, status and time in ${runs} random cases`, async () => {
    const world = await writeAll(fc.sample(anyCase, { numRuns: runs, seed }))
    for (const visibility of visibilities) {
      const [online, offline] = [await onlineAnswers(world, visibility), await offlineAnswers(world, visibility)]
      expect(offline.map(textOf)).toEqual(online.map(textOf))
      expect(ruleAnswers(world.cases, visibility).map(textOf)).toEqual(online.map(textOf))
      const statuses = new Set(online.map(({ status }) => status))
      expect([...statuses].sort()).toEqual(['NOT_FOUND', 'NULL_VALUE', 'OUTSIDE_MAX_AGE', 'PRESENT'])
    }
    world.close()
  }, 60_000)
})
