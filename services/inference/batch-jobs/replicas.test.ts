import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BatchJobState, BatchPredictionService } from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import { type Client, createClient } from '@slipway/rpc'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type RunningKafka, startKafka } from '../../../tools/backends/index.ts'
import { query, type Replica, reached, startReplica } from './replica.fixture.ts'
import { replicaModels } from './replica-models.fixture.ts'

type Jobs = Client<typeof BatchPredictionService>

const isKafkaWanted = process.env.SLIPWAY_TEST_KAFKA !== undefined

let directory: string
/** The bus that the replicas share. */
let shared: string
const replicas: Replica[] = []
const children: ChildProcess[] = []
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'slipway-replicas-'))
  shared = directory
})
afterEach(async () => {
  for (const replica of replicas.splice(0)) await replica.stop()
  for (const child of children.splice(0)) await kill(child)
  rmSync(directory, { recursive: true, force: true })
})

async function replica(name: string): Promise<Replica> {
  const started = await startReplica({ shared, own: join(directory, name), models: replicaModels })
  replicas.push(started)
  return started
}

/** A replica in a process of its own. */
async function processOf(name: string): Promise<{ child: ChildProcess; client: Jobs }> {
  const script = fileURLToPath(new URL('./replica-process.fixture.ts', import.meta.url))
  const child = spawn(process.execPath, [script, shared, join(directory, name)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  children.push(child)
  let said = ''
  for await (const piece of child.stdout ?? []) {
    said += String(piece)
    const [, address] = /^(127\.0\.0\.1:\d+)$/m.exec(said) ?? []
    if (address !== undefined) return { child, client: createClient(BatchPredictionService, { address }) }
  }
  throw new Error('the process ended')
}

async function stop(started: Replica): Promise<void> {
  replicas.splice(replicas.indexOf(started), 1)
  await started.stop()
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}

async function makeRows(rows: number): Promise<string> {
  const path = join(directory, 'rows.parquet')
  const columns = Array.from({ length: 16 }, (_, index) => `(r + ${index}) / 1000.0 as f${index}`)
  await query(
    `copy (select r as id, r::double as x, ${columns.join(', ')} from range(${rows}) t(r)) to '${path}' (format parquet)`,
  )
  return path
}

function job(path: string, model: 'same' | 'slow', rowsPerPart: number) {
  const columns = Array.from({ length: 16 }, (_, index) => ({ column: `f${index}` }))
  const mapping = model === 'same' ? { input: 'input', columns: [{ column: 'x' }] } : { input: 'features', columns }
  return {
    modelVersion: `models/${model}/versions/1`,
    input: { case: 'files' as const, value: { paths: [path], columns: [mapping] } },
    outputDirectory: join(directory, 'out'),
    options: { keyColumns: ['id'], rowsPerPart },
  }
}

async function rowsOnce(rows: number): Promise<void> {
  const out = join(directory, 'out')
  const [counts] = await query(`select count(*)::int, count(distinct id)::int from '${out}/*.parquet'`)
  expect(counts).toEqual([rows, rows])
  const manifest = JSON.parse(readFileSync(join(out, '_SUCCESS'), 'utf8'))
  expect(manifest.rows).toBe(rows)
  expect(readdirSync(out).filter((name) => name.endsWith('.tmp'))).toEqual([])
}

async function untilParts(client: Jobs, name: string, parts: number): Promise<void> {
  for await (const { batchJob } of client.watchBatchJob({ name })) {
    if ((batchJob?.progress?.partsDone ?? 0) >= parts) return
  }
}

describe('over the embedded bus', theSame)

describe.skipIf(!isKafkaWanted)('over Kafka', () => {
  let kafka: RunningKafka
  beforeEach(async () => {
    kafka = await startKafka()
    shared = `kafka:${kafka.brokers[0]}`
  })
  afterEach(async () => await kafka.stop())

  theSame()

  test('a replica stops in the middle of a job, its broker there or gone, and loses and doubles no row', {
    timeout: 90_000,
  }, async () => {
    const rows = 6000
    const path = await makeRows(rows)
    const first = await replica('a')
    const { name } = await first.client.createBatchJob({ batchJob: job(path, 'slow', 500) })
    await untilParts(first.client, name, 1)
    await stop(first)
    const second = await replica('b')
    await expect.poll(() => second.client.getBatchJob({ name }).catch(() => undefined)).toBeDefined()
    await untilParts(second.client, name, 3)
    await kafka.kill()
    const third = await replica('c')
    await Promise.all([stop(second), stop(third)])
    await kafka.restart()
    const last = await replica('b')
    await reached(last.client, name, BatchJobState.SUCCEEDED)
    await rowsOnce(rows)
  })
})

function theSame(): void {
  test('replicas share a job, and each of them knows how far it is', { timeout: 60_000 }, async () => {
    const [first, second] = [await replica('a'), await replica('b')]
    const rows = 12_000
    const { name } = await first.client.createBatchJob({ batchJob: job(await makeRows(rows), 'same', 1000) })
    const done = await reached(first.client, name, BatchJobState.SUCCEEDED)
    expect(done.progress).toMatchObject({ partsDone: 12, rowsDone: 12_000n })
    await expect.poll(async () => (await second.client.getBatchJob({ name })).state).toBe(BatchJobState.SUCCEEDED)
    expect(await second.client.getBatchJob({ name })).toEqual(await first.client.getBatchJob({ name }))
    await rowsOnce(rows)
    const wrong = await query(`select count(*)::int from '${join(directory, 'out')}/*.parquet' where output <> id`)
    expect(wrong).toEqual([[0]])
  })

  test('kill -9 at any point loses no row and doubles none', { timeout: 120_000 }, async () => {
    const rows = 6000
    const path = await makeRows(rows)
    let { child, client } = await processOf('a')
    const { name } = await client.createBatchJob({ batchJob: job(path, 'slow', 500) })
    let kills = 0
    for (const parts of [0, 2, 5]) {
      await untilParts(client, name, parts)
      await kill(child)
      client.close()
      kills += 1
      ;({ child, client } = await processOf('a'))
      expect((await client.getBatchJob({ name })).progress?.partsDone).toBeGreaterThanOrEqual(parts)
    }
    const done = await reached(client, name, BatchJobState.SUCCEEDED)
    client.close()
    expect(kills).toBe(3)
    expect(done.progress).toMatchObject({ rowsDone: BigInt(rows), partsDone: 12 })
    await rowsOnce(rows)
  })

  test('what a replica that is killed was working on is taken over by another', { timeout: 60_000 }, async () => {
    const rows = 4000
    const path = await makeRows(rows)
    const { child, client } = await processOf('a')
    const other = await replica('b')
    const { name } = await client.createBatchJob({ batchJob: job(path, 'slow', 500) })
    await untilParts(client, name, 2)
    await kill(child)
    client.close()
    await expect.poll(async () => await other.client.getBatchJob({ name }).then(({ name: found }) => found)).toBe(name)
    await reached(other.client, name, BatchJobState.SUCCEEDED)
    await rowsOnce(rows)
  })

  test('a job pauses on all replicas, resumes behind its finished parts, and is cancelled for ever', {
    timeout: 60_000,
  }, async () => {
    const [first, second] = [await replica('a'), await replica('b')]
    const path = await makeRows(6000)
    const created = await first.client.createBatchJob({ batchJob: job(path, 'slow', 500) })
    const { name } = created
    await untilParts(first.client, name, 2)
    await expect
      .poll(async () => await second.client.getBatchJob({ name }).then(({ state }) => state))
      .toBe(BatchJobState.RUNNING)
    const stale = second.client.pauseBatchJob({ name, etag: created.etag })
    await expect(stale).rejects.toMatchObject({ reason: 'STALE_ETAG' })
    const paused = await second.client.pauseBatchJob({ name })
    expect(paused.state).toBe(BatchJobState.PAUSED)
    await expect.poll(async () => (await first.client.getBatchJob({ name })).progress?.rowsUnderWay).toBe(0n)
    const { progress: before } = await second.client.getBatchJob({ name })
    const written = readdirSync(join(directory, 'out')).filter((file) => file.startsWith('part-')).length
    const resumed = await first.client.resumeBatchJob({ name })
    expect(resumed.state).toBe(BatchJobState.RUNNING)
    expect(resumed.progress?.partsDone).toBeGreaterThanOrEqual(before?.partsDone ?? 0)
    await untilParts(first.client, name, Math.max(written, before?.partsDone ?? 0) + 1)
    expect((await first.client.cancelBatchJob({ name })).state).toBe(BatchJobState.CANCELLED)
    const again = first.client.resumeBatchJob({ name })
    await expect(again).rejects.toMatchObject({ reason: 'BATCH_JOB_ENDED' })
    expect(existsSync(join(directory, 'out', '_SUCCESS'))).toBe(false)
  })
}
