import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { MessageInitShape } from '@bufbuild/protobuf'
import { consume, topics } from '@slipway/events'
import { identityModel } from '@slipway/onnx'
import {
  type BatchJobSchema,
  BatchJobState,
  type BatchOptionsSchema,
  type ColumnSourceSchema,
  FileFormat,
  RowErrorPolicy,
} from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import { MissingPolicy } from '@slipway/proto/slipway/registry/v1/model'
import { attribute, metric, recordMetrics, startTelemetry } from '@slipway/telemetry'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { query, type Replica, reached, startReplica } from './replica.fixture.ts'

let directory: string
let replica: Replica
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'slipway-batch-'))
  replica = await startReplica({
    shared: directory,
    own: join(directory, 'own'),
    models: [
      { model: 'pair', bytes: identityModel('FP32', [-1, 2]) },
      { model: 'text', bytes: identityModel('BYTES', [-1]) },
      { model: 'whole', bytes: identityModel('INT64', [-1, 1]) },
      { model: 'fixed', bytes: identityModel('FP32', [1, 2]) },
    ],
  })
})
afterAll(async () => {
  await replica.stop()
  rmSync(directory, { recursive: true, force: true })
})

let count = 0
const place = (name: string): string => join(directory, `${count++}-${name}`)
const file = (name: string, text: string): string => {
  const path = place(name)
  writeFileSync(path, text)
  return path
}

interface PairOptions {
  readonly name?: string
  readonly modelVersion?: string
  readonly outputDirectory?: string
  readonly options?: MessageInitShape<typeof BatchOptionsSchema>
  readonly columns?: MessageInitShape<typeof ColumnSourceSchema>[]
  readonly format?: FileFormat
}

/** A job for the model `pair` with columns a and b. */
function pairJob(paths: string[], change: PairOptions = {}) {
  const { columns = [{ column: 'a' }, { column: 'b' }], format = FileFormat.UNSPECIFIED, ...rest } = change
  return {
    modelVersion: 'models/pair',
    input: { case: 'files' as const, value: { paths, format, columns: [{ input: 'input', columns }] } },
    outputDirectory: place('out'),
    options: { keyColumns: ['id'] },
    ...rest,
  }
}

async function run(batchJob: MessageInitShape<typeof BatchJobSchema>) {
  const { name } = await replica.client.createBatchJob({ batchJob })
  return await reached(replica.client, name, BatchJobState.SUCCEEDED)
}

const failed = async (batchJob: MessageInitShape<typeof BatchJobSchema>) => {
  const { name } = await replica.client.createBatchJob({ batchJob })
  return await reached(replica.client, name, BatchJobState.FAILED)
}

test('every row of Parquet files is answered once, in order, with its key', async () => {
  const folder = place('in')
  await query(
    `copy (select r as id, r * 0.5 as a, case when r % 7 = 0 then null else -r end as b, r // 20000 as f from range(50000) t(r))
     to '${folder}' (format parquet, partition_by (f), write_partition_columns false)`,
  )
  const job = await run(pairJob([`${folder}/*/*.parquet`], { options: { keyColumns: ['id'], rowsPerPart: 7000 } }))
  expect(job.progress).toMatchObject({ rowsDone: 50_000n, rowsTotal: 50_000n, partsDone: 8, partsTotal: 8 })
  const out = job.outputDirectory
  const [counted] = await query(
    `select count(*)::int, count(distinct id)::int, sum(output_0 <> (id * 0.5)::float)::int,
       sum(case when id % 7 = 0 then not isnan(output_1) else output_1 <> -id end)::int from '${out}/*.parquet'`,
  )
  expect(counted).toEqual([50_000, 50_000, 0, 0])
  expect(await query(`select id::int from '${out}/part-00001.parquet' limit 2`)).toEqual([[7000], [7001]])
  const manifest = JSON.parse(readFileSync(join(out, '_SUCCESS'), 'utf8'))
  expect(manifest).toMatchObject({ job: job.name, modelVersion: 'models/pair/versions/1', rows: 50_000, rowsFailed: 0 })
  expect(manifest.parts).toHaveLength(8)
  expect(readdirSync(out).filter((name) => name.endsWith('.tmp'))).toEqual([])
})

test('CSV: quotes, line breaks inside them, carriage returns, empty lines, missing values', async () => {
  const path = file(
    'rows.csv',
    'id,a,note,b\r\n"one ""x""",1.5,"two\nlines",2\r\n\r\nsecond,,plain,true\r\nthird,4,"",-1e3',
  )
  const { outputDirectory, progress } = await run(
    pairJob([path], { options: { keyColumns: ['id', 'note'], rowsPerPart: 2 } }),
  )
  expect(progress).toMatchObject({ rowsDone: 3n, partsDone: 2 })
  expect(await query(`select * from '${outputDirectory}/*.parquet'`)).toEqual([
    ['one "x"', 'two\nlines', 1.5, 2],
    ['second', 'plain', 'NaN', 1],
    ['third', null, 4, -1000],
  ])
})

test('JSON Lines: members in any order, some missing, text and numbers', async () => {
  const path = file(
    'rows.jsonl',
    '{"b": 2, "id": "x", "a": "1.5"}\n\n{"id": 7, "a": null, "b": true}\n{"a": 1, "b": 2}',
  )
  const { outputDirectory } = await run(pairJob([path]))
  expect(await query(`select * from '${outputDirectory}/*.parquet'`)).toEqual([
    ['x', 1.5, 2],
    ['7', 'NaN', 1],
    [null, 1, 2],
  ])
})

test('texts and whole numbers, 64 bits of them, arrive as they are', async () => {
  const path = place('rows.parquet')
  await query(
    `copy (select * from (values (1, 'ä', 9223372036854775807), (2, '', -1), (3, 'a"b', 0)) t(id, input, n)) to '${path}' (format parquet)`,
  )
  const texts = await run({
    modelVersion: 'models/text/versions/1',
    input: { case: 'files', value: { paths: [path] } },
    outputDirectory: place('out'),
    options: { keyColumns: ['id'] },
  })
  expect(await query(`select id, output from '${texts.outputDirectory}/*.parquet'`)).toEqual([
    [1, 'ä'],
    [2, ''],
    [3, 'a"b'],
  ])
  const numbers = await run({
    modelVersion: 'models/whole',
    input: { case: 'files', value: { paths: [path], columns: [{ input: 'input', columns: [{ column: 'n' }] }] } },
    outputDirectory: place('out'),
  })
  expect(await query(`select output from '${numbers.outputDirectory}/*.parquet'`)).toEqual([
    ['9223372036854775807'],
    ['-1'],
    ['0'],
  ])
})

test('a column of lists fills a tensor, and a default stands for what is missing', async () => {
  const path = place('lists.parquet')
  await query(`copy (select [r::double, -r] as v, r as id from range(5000) t(r)) to '${path}' (format parquet)`)
  const { outputDirectory } = await run(pairJob([path], { columns: [{ column: 'v' }] }))
  expect(
    await query(`select count(*)::int from '${outputDirectory}/*.parquet' where output_0 = id and output_1 = -id`),
  ).toEqual([[5000]])
  const csv = file('holes.csv', 'id,a,b\n1,,2\n')
  const column = { column: 'a', missingPolicy: MissingPolicy.DEFAULT, defaultValue: 0.5 }
  const filled = pairJob([csv], { columns: [column, { column: 'b' }] })
  expect(await query(`select * from '${(await run(filled)).outputDirectory}/*.parquet'`)).toEqual([['1', 0.5, 2]])
})

test('a row that cannot be read fails the job, which names file, row and column but no value', async () => {
  const path = file('bad.csv', 'id,a,b\n1,1,2\n2,secret,2\n')
  const job = await failed(pairJob([path]))
  expect(job.message).toBe(`${path} row 2: column a: does not fit FP32`)
  expect(readdirSync(job.outputDirectory)).toEqual(['_job.json', '_plan.json'])
  const missing = file('missing.csv', 'id,n\n1,5\n2,\n3,6\n')
  const whole = {
    modelVersion: 'models/whole',
    input: {
      case: 'files' as const,
      value: { paths: [missing], columns: [{ input: 'input', columns: [{ column: 'n' }] }] },
    },
    outputDirectory: place('out'),
  }
  expect((await failed(whole)).message).toBe(`${missing} row 2: column n: is missing`)
  const torn = file('torn.jsonl', '{"id":1,"a":1,"b":2}\n{"id":2,"a":1,\n')
  expect((await failed(pairJob([torn]))).message).toBe(`${torn} row 2: not a JSON object`)
  const short = file('short.csv', 'id,a,b\n1,1,2\n2,2\n3,3,3\n')
  expect((await failed(pairJob([short]))).message).toBe(`${short} row 2: missing columns`)
})

test('rows that cannot be read are written with the reason when the job says so', async () => {
  const path = file('bad.csv', 'id,a,b\n1,1,2\n2,x,2\n3,3\n4,4,y\n5,5,5\n')
  const options = { keyColumns: ['id'], rowErrors: RowErrorPolicy.WRITE_ERROR }
  const { outputDirectory, progress } = await run(pairJob([path], { options }))
  expect(progress).toMatchObject({ rowsDone: 5n, rowsFailed: 3n })
  expect(await query(`select * from '${outputDirectory}/*.parquet'`)).toEqual([
    ['1', 1, 2, null],
    ['2', null, null, 'column a: does not fit FP32'],
    ['4', null, null, 'column b: does not fit FP32'],
    ['5', 5, 5, null],
    [null, null, null, 'missing columns'],
  ])
})

test('rows and parts are measured by what became of them', async () => {
  const { reader, points } = recordMetrics()
  const telemetry = startTelemetry({ serviceName: 'test', env: {}, metricReaders: [reader] })
  const path = file('measured.csv', 'id,a,b\n1,1,2\n2,x,2\n3,3,3\n4,4,4\n')
  await run(pairJob([path], { options: { rowErrors: RowErrorPolicy.WRITE_ERROR, rowsPerPart: 2 } }))
  await failed(pairJob([path]))
  const measured = async (name: string) => {
    const found = (await points()).filter((point) => point.name === name)
    return Object.fromEntries(found.map(({ labels, value }) => [labels[attribute.outcome], value]))
  }
  // The cutting of each input is a part, too.
  await expect
    .poll(() => measured(metric.inferenceBatchJobPartDuration))
    .toMatchObject({ done: { count: 4 }, failed: { count: 1 } })
  expect(await measured(metric.inferenceBatchJobRows)).toEqual({ answered: 3, failed: 1 })
  await telemetry.shutdown()
})

test('what does not fit is refused at creation, and nothing is written', async () => {
  const path = file('rows.csv', 'id,a,c\n1,2,3\n')
  const refusalOf = (batchJob: MessageInitShape<typeof BatchJobSchema>) =>
    replica.client.createBatchJob({ batchJob }).then(
      () => 'taken',
      (error) => `${error.reason}: ${error.message}`,
    )
  const job = pairJob([path])
  expect(await refusalOf(job)).toContain('has no column b, which input input needs')
  expect(readdirSync(directory)).not.toContain(job.outputDirectory)
  expect(await refusalOf(pairJob([join(directory, 'none-*.csv')]))).toContain('no file is called like')
  const fits = file('fits.csv', 'id,a,b\n1,2,3\n')
  expect(await refusalOf(pairJob([path], { modelVersion: 'models/none' }))).toContain('UNKNOWN_MODEL')
  expect(await refusalOf(pairJob([path], { modelVersion: 'models/fixed' }))).toContain('NO_ROWS')
  expect(await refusalOf(pairJob([fits], { outputDirectory: directory }))).toContain('is not empty')
  expect(await refusalOf(pairJob([fits], { outputDirectory: 'out' }))).toContain('not an absolute path')
  expect(await refusalOf(pairJob([file('rows.txt', 'a')]))).toContain('say which it is')
  const good = pairJob([file('good.txt', 'id,a,b\n1,2,3\n')], { format: FileFormat.CSV })
  const checked = await replica.client.createBatchJob({ batchJob: good, validateOnly: true })
  expect(checked).toMatchObject({ modelVersion: 'models/pair/versions/1', state: BatchJobState.UNSPECIFIED })
  expect(readdirSync(directory)).not.toContain(good.outputDirectory)
})

test('the same id gives the same job again, with other content ALREADY_EXISTS; jobs are listed newest first', async () => {
  const path = file('rows.csv', 'id,a,b\n1,2,3\n')
  const batchJob = { ...pairJob([path]), name: 'batchJobs/mine' }
  const first = await run(batchJob)
  expect(await replica.client.createBatchJob({ batchJob })).toEqual(first)
  const other = { ...batchJob, outputDirectory: place('out') }
  await expect(replica.client.createBatchJob({ batchJob: other })).rejects.toMatchObject({ reason: 'BATCH_JOB_EXISTS' })
  const { batchJobs, nextPageToken } = await replica.client.listBatchJobs({ pageSize: 1 })
  expect(batchJobs.map(({ name }) => name)).toEqual(['batchJobs/mine'])
  const next = await replica.client.listBatchJobs({ pageSize: 1, pageToken: nextPageToken })
  expect(next.batchJobs[0]?.name).not.toBe('batchJobs/mine')
})

test('no rows make a job that succeeds without parts', async () => {
  const { outputDirectory, progress } = await run(pairJob([file('none.csv', 'id,a,b\n')]))
  expect(progress).toMatchObject({ rowsDone: 0n, partsTotal: 0 })
  expect(readdirSync(outputDirectory)).toContain('_SUCCESS')
})

test('of a job no more than 64 parts are due at a time, and none is lost when it is paused and resumed', {
  timeout: 120_000,
}, async () => {
  const rows = Array.from({ length: 150 }, (_, row) => `${row},${row},${-row}\n`).join('')
  const batchJob = pairJob([file('large.csv', `id,a,b\n${rows}`)], { options: { keyColumns: ['id'], rowsPerPart: 1 } })
  const { name } = await replica.client.createBatchJob({ batchJob })
  await expect.poll(async () => (await replica.client.getBatchJob({ name })).progress?.partsDone).toBeGreaterThan(5)
  const paused = await replica.client.pauseBatchJob({ name })
  const writtenParts = paused.progress?.partsDone ?? 0
  expect(writtenParts).toBeLessThan(150)
  const due = await partsDue(name)
  expect(due.length).toBeGreaterThanOrEqual(64)
  expect(due.length).toBeLessThanOrEqual(64 + writtenParts)
  await replica.client.resumeBatchJob({ name })
  const { progress, outputDirectory } = await reached(replica.client, name, BatchJobState.SUCCEEDED)
  expect(progress).toMatchObject({ rowsDone: 150n, partsDone: 150, partsTotal: 150 })
  const [counted] = await query(`select count(*)::int, count(distinct id)::int from '${outputDirectory}/*.parquet'`)
  expect(counted).toEqual([150, 150])
  const all = await partsDue(name)
  expect(new Set(all).size).toBe(150)
  expect(all.length).toBeLessThanOrEqual(150 + 64)
})

/** The parts of a job that were due until now. */
async function partsDue(name: string): Promise<number[]> {
  const due: number[] = []
  const reading = await consume(replica.bus, topics.batchParts, {
    group: `test-${count++}`,
    from: 'earliest',
    handle: async (events) => {
      for (const { message } of events) if (message.job === name && message.part >= 0) due.push(message.part)
    },
  })
  await reading.caughtUp()
  await reading.stop()
  return due
}
