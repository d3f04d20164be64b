/**
 * A batch job over a Parquet file against a loop in one process that does no more than it must: read the same file with
 * the same reader, run the model on each chunk, write the answers to Parquet. And the memory of a job over ten times the rows.
 */
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { BatchJobState, BatchPredictionService } from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import { type Client, createClient } from '@slipway/rpc'
import { atLeast, atMost, type Benchmark, type Figure, informs, median, type Progress } from './benchmark.ts'
import { startInference } from './inference-servers.ts'
import { watchMemory } from './memory-of-tree.ts'
import { benchModel, FEATURES } from './model.ts'
import { BenchProcess } from './processes.ts'

const MODEL = 'batch'
const ROWS = 1_000_000
const LARGE = 10
const MIN_RATIO = 0.8
/** Memory of the job over ten times the rows may be so much more, and no more. */
const MAX_GROWTH = 1.15
const MEBIBYTE = 1024 * 1024

type Jobs = Client<typeof BatchPredictionService>

/** See the top of this file. */
export const batchJobBenchmark: Benchmark = {
  name: 'batch-job',
  summary: 'rows/s of a batch job against a bare ONNX loop over the same Parquet file; memory at 1 and 10 million rows',
  defaults: { seconds: 1, rounds: 5 },
  async run({ rounds, seed, parameters }, progress) {
    const rows = Number(parameters.rows ?? ROWS)
    const directory = await mkdtemp(join(tmpdir(), 'slipway-batch-bench-'))
    const loop = new BenchProcess(new URL('./servers/batch-loop.ts', import.meta.url))
    const { servers, stop } = await startInference(MODEL, benchModel(), { server: serverSettings(parameters) })
    const jobs = createClient(BatchPredictionService, { address: servers.server.address })
    try {
      await loop.next()
      const few = join(directory, 'few.parquet')
      progress(`making ${rows} rows`)
      await makeRows(few, rows, seed)
      await runJob(jobs, few, join(directory, 'warm'))
      const rates = { loop: [] as number[], job: [] as number[] }
      for (let round = 1; round <= rounds; round++) {
        progress(`round ${round} of ${rounds}`)
        const output = join(directory, `loop-${round}.parquet`)
        const loopMs = await loop.ask<number>({ input: few, output })
        rates.loop.push(rows / (loopMs / 1000))
        rates.job.push(rows / ((await runJob(jobs, few, join(directory, `job-${round}`))) / 1000))
      }
      const ratio = median(rates.job.map((rate, index) => rate / (rates.loop[index] ?? Number.NaN)))
      const memory = await measureMemory({
        jobs,
        pid: servers.server.process.pid ?? 0,
        directory,
        few,
        rows,
        seed,
        progress,
      })
      return {
        rows: [
          informs(`loop over ${rows} rows of ${FEATURES} columns`, median(rates.loop), 'rows/s'),
          informs('batch job', median(rates.job), 'rows/s'),
          atLeast('batch job, of the loop', ratio, MIN_RATIO, '×'),
          ...memory,
        ],
        data: { rates },
      }
    } finally {
      jobs.close()
      await Promise.all([loop.stop(), stop()])
      await rm(directory, { recursive: true, force: true })
    }
  },
}

function serverSettings(parameters: Readonly<Record<string, string>>): Record<string, string> {
  return parameters.readers === undefined ? {} : { SLIPWAY_INFERENCE_BATCH_READERS: parameters.readers }
}

/** Rows that follow from the seed: an id and the model's columns. */
async function makeRows(path: string, rows: number, seed: number): Promise<void> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' })
  const connection = await instance.connect()
  const columns = Array.from(
    { length: FEATURES },
    (_, index) => `((hash(r * ${FEATURES} + ${index} + ${seed}) % 1000000) / 1000000)::double as f${index}`,
  )
  await connection.run(
    `copy (select r as id, ${columns.join(', ')} from range(${rows}) t(r)) to '${path}' (format parquet)`,
  )
  connection.closeSync()
  instance.closeSync()
}

/** Runs a job to its end; returns how long that took, from the call that creates it. */
async function runJob(jobs: Jobs, input: string, outputDirectory: string): Promise<number> {
  const begunMs = performance.now()
  const columns = Array.from({ length: FEATURES }, (_, index) => ({ column: `f${index}` }))
  const files = { paths: [input], columns: [{ input: 'features', columns }] }
  const { name } = await jobs.createBatchJob({
    batchJob: {
      modelVersion: `models/${MODEL}/versions/1`,
      input: { case: 'files', value: files },
      outputDirectory,
      options: { keyColumns: ['id'] },
    },
  })
  for await (const { batchJob } of jobs.watchBatchJob({ name })) {
    if (batchJob?.state === BatchJobState.SUCCEEDED) break
    if (batchJob?.state === BatchJobState.FAILED) throw new Error(batchJob.message)
  }
  await stat(join(outputDirectory, '_SUCCESS'))
  const elapsedMs = performance.now() - begunMs
  await rm(outputDirectory, { recursive: true })
  return elapsedMs
}

interface MemoryOptions {
  readonly jobs: Jobs
  readonly pid: number
  readonly directory: string
  readonly few: string
  readonly rows: number
  readonly seed: number
  readonly progress: Progress
}

async function measureMemory({ jobs, pid, directory, few, rows, seed, progress }: MemoryOptions): Promise<Figure[]> {
  const many = join(directory, 'many.parquet')
  progress(`making ${LARGE * rows} rows`)
  await makeRows(many, LARGE * rows, seed)
  const peakOf = async (input: string, name: string) => {
    const watch = watchMemory(pid)
    const elapsedMs = await runJob(jobs, input, join(directory, name))
    return { bytes: watch.stop(), elapsedMs }
  }
  progress(`a job over ${rows} rows`)
  const small = await peakOf(few, 'few')
  progress(`a job over ${LARGE * rows} rows`)
  const large = await peakOf(many, 'many')
  return [
    informs(`service and readers, peak resident, ${rows} rows`, small.bytes / MEBIBYTE, 'MiB'),
    informs(`service and readers, peak resident, ${LARGE * rows} rows`, large.bytes / MEBIBYTE, 'MiB'),
    informs(`batch job over ${LARGE * rows} rows`, (LARGE * rows) / (large.elapsedMs / 1000), 'rows/s'),
    atMost(`memory at ${LARGE} times the rows`, large.bytes / small.bytes, MAX_GROWTH, '×'),
  ]
}
