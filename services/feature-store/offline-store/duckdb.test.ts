import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ValueType } from '@slipway/proto/slipway/features/v1/value'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Journal } from '../journal.ts'
import { openRowTables } from '../online-store/row-tables.ts'
import { SqliteOnlineStore } from '../online-store/sqlite.ts'
import { packValues } from '../packing.ts'
import { query } from '../store.fixture.ts'
import type { ViewVersion } from '../view.ts'
import { openDuckDbOfflineStore } from './duckdb.ts'
import type { JoinTask, OfflineStore } from './offline-store.ts'

const view: ViewVersion = {
  tableId: 1,
  id: 'v',
  digest: '',
  keys: [{ name: 'k', type: ValueType.INT64 }],
  features: [{ name: 'x', type: ValueType.DOUBLE }],
  ttlMicros: undefined,
}

let directory: string
let offline: OfflineStore
const pids: number[] = []
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'slipway-duckdb-'))
  const limits = { threads: 1, memoryMiB: 256, tempDirectory: join(directory, 'tmp') }
  offline = openDuckDbOfflineStore(limits, (pid) => pid !== undefined && pids.push(pid))
})
afterEach(async () => {
  await offline.close()
  rmSync(directory, { recursive: true, force: true })
})

/** A spine of so many rows, and parts of nothing. */
async function task(rows: number): Promise<JoinTask> {
  const spinePath = join(directory, `spine-${rows}.parquet`)
  await query(
    `copy (select r % 1000 as k, make_timestamp(r) as event_time, random() as a, random() as b from range(${rows}) t(r))
     to '${spinePath}' (format parquet)`,
  )
  return {
    spinePath,
    timeColumn: 'event_time',
    views: [view],
    partsDirectory: directory,
    parts: [],
    columns: [{ tableId: 1, index: 0, name: 'x' }],
    visibility: 'known',
    createdBeforeMicros: 2n ** 62n,
    revision: 0n,
    includeTimes: false,
    outputPath: join(directory, `set-${rows}.parquet`),
  }
}

const never = new AbortController().signal

test('a task that is aborted ends its process, leaves no file, and the next one works', async () => {
  const aborted = new AbortController()
  const long = await task(500_000)
  const running = offline.join(long, {
    onProgress: () => aborted.abort(new Error('not wanted any more')),
    signal: aborted.signal,
  })
  const waiting = offline.join(await task(10), { onProgress: () => undefined, signal: never })
  await expect(running).rejects.toThrow('not wanted any more')
  expect(await waiting).toBe(10)
  expect(readdirSync(directory).filter((name) => name.startsWith('set-'))).toEqual(['set-10.parquet'])
})

test('a task whose process is killed from outside is tried once more, then fails with UNAVAILABLE', async () => {
  const killed = new Set<number>()
  // A process that is killed may have said more of its progress before.
  const killNewest = () => {
    const pid = pids.at(-1)
    if (pid === undefined || killed.has(pid)) return
    killed.add(pid)
    process.kill(pid, 'SIGKILL')
  }
  let isKilled = false
  const killOnce = () => {
    if (!isKilled) killNewest()
    isKilled = true
  }
  expect(await offline.join(await task(1000), { onProgress: killOnce, signal: never })).toBe(1000)
  const doomed = offline.join(await task(200_000), { onProgress: killNewest, signal: never })
  await expect(doomed).rejects.toMatchObject({ reason: 'OFFLINE_STORE_DIED' })
  expect(await offline.join(await task(10), { onProgress: () => undefined, signal: never })).toBe(10)
})

test('a part holds the rows up to its revision, and the same rows give a part of the same name', async () => {
  const databasePath = join(directory, 'rows.db')
  const database = await openRowTables(databasePath)
  const online = new SqliteOnlineStore({ database, journal: new Journal(database) })
  const row = (event: bigint) => ({
    key: packValues([1n]),
    eventMicros: event,
    createdMicros: event,
    sequence: 0n,
    deleted: false,
    payload: packValues([Number(event)]),
  })
  for (const event of [1n, 2n, 3n]) await online.write(1, [row(event)], 0n)
  const flush = (lastRevision: bigint) => offline.flush({ databasePath, view, lastRevision, directory })
  const part = await flush(2n)
  expect(part).toMatchObject({ firstRevision: 1n, lastRevision: 2n, rowCount: 2, path: '1-1-2.parquet' })
  expect(await flush(2n)).toEqual(part)
  expect(
    await query(`select f0 as x, revision::integer as revision from '${join(directory, '1-1-2.parquet')}'`),
  ).toEqual([
    { x: 1, revision: 1 },
    { x: 2, revision: 2 },
  ])
  expect(
    await offline.flush({ databasePath, view: { ...view, tableId: 2 }, lastRevision: 9n, directory }),
  ).toBeUndefined()
  database.close()
})
