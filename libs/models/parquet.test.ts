import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { FeatureType } from '@slipway/proto/slipway/registry/v1/model'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parquetRows } from './parquet.ts'
import { buildReferenceDistributions, type TrainingRow } from './reference-distributions.ts'

let directory: string

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'slipway-parquet-'))
  const instance = await DuckDBInstance.create(':memory:')
  const connection = await instance.connect()
  await connection.run(`
    COPY (
      SELECT TIMESTAMP '2001-01-01 12:00:00' + INTERVAL (i % 4) DAY AS "time", DATE '2001-01-01' AS "day",
        1000000 * i AS micros, i AS distance, CAST(i AS DECIMAL(9, 2)) / 2 AS "half ""price""",
        CASE WHEN i % 5 = 0 THEN NULL ELSE 'A' || i % 2 END AS origin, i % 2 = 0 AS even
      FROM range(20000) t(i))
    TO '${join(directory, 'rows.parquet')}' (FORMAT parquet)`)
  connection.closeSync()
  instance.closeSync()
})

afterAll(() => {
  rmSync(directory, { recursive: true, force: true })
})

async function first(timeColumn: string, ...columns: string[]): Promise<TrainingRow> {
  for await (const row of parquetRows({ path: join(directory, 'rows.parquet'), timeColumn, columns })) return row
  throw new Error('no row')
}

test('numbers, text, missing values and times come as a reference distribution counts them', async () => {
  expect(await first('time', 'distance', 'half "price"', 'origin', 'even')).toEqual({
    timeMicros: BigInt(Date.UTC(2001, 0, 1, 12)) * 1000n,
    values: { distance: 0, 'half "price"': 0, origin: null, even: 1 },
  })
  expect((await first('day')).timeMicros).toBe(BigInt(Date.UTC(2001, 0, 1)) * 1000n)
  expect((await first('micros')).timeMicros).toBe(0n)
})

test('a column that is not there, or holds no times, is named', async () => {
  await expect(first('time', 'dist')).rejects.toThrow('there is no column dist, only time, day')
  await expect(first('origin')).rejects.toThrow('origin holds VARCHAR, not times')
})

test('reference distributions are built from a Parquet file in one call', async () => {
  const [distance, origin] = await buildReferenceDistributions({
    features: [
      { feature: 'distance', type: FeatureType.DOUBLE },
      { feature: 'origin', type: FeatureType.STRING },
    ],
    rows: parquetRows({ path: join(directory, '*.parquet'), timeColumn: 'time', columns: ['distance', 'origin'] }),
  })
  expect(distance?.windows).toHaveLength(4)
  expect(distance?.windows.flatMap(({ counts }) => counts).reduce((sum, count) => sum + count)).toBe(20_000n)
  expect(origin?.cells).toMatchObject({ value: { values: ['A0', 'A1'] } })
})
