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
import { calibrate } from './cost.ts'
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

/** A model of the kind that the batching figures are about too. */
const TYPICAL_COST = { perRunMs: 0.3, perRowMs: 0.005 }

type Jobs = Client<typeof BatchPredictionService>

/** A service with one model. */
interface Served {
  readonly jobs: Jobs
  readonly pid: number
  readonly model: Uint8Array
  stop(): Promise<void>
}

/** See the top of this file. */
export const batchJobBenchmark: Benchmark = {
  name: 'batch-job',
  summary: 'rows/s of a batch job against a bare ONNX loop over the same Parquet file; memory at 1 and 10 million rows',
  defaults: { seconds: 1, rounds: 5 },
  async run({ rounds, seed, parameters }, progress) {
    const rows = Number(parameters.rows ?? ROWS)
    const directory = await mkdtemp(join(tmpdir(), 'slipway-batch-bench-'))
    const loop = new BenchProcess(new URL('./servers/batch-loop.ts', import.meta.url))
    const running: Served[] = []
    try {
      await loop.next()
      progress('making a model of 0.3 ms a run and 5 µs a row')
      const { model } = await calibrate(TYPICAL_COST)
      const typical = await serve(model, parameters)
      running.push(typical)
      const cheap = await serve(benchModel(), parameters)
      running.push(cheap)
      const few = join(directory, 'few.parquet')
      progress(`making ${rows} rows`)
      await makeRows(few, rows, seed)
      const compare = { loop, few, rows, rounds, directory, progress }
      const main = await compareRates('5 µs a row', typical, compare)
      const light = await compareRates('a perceptron of 3,000 products', cheap, compare)
      return {
        rows: [
          ...main.figures,
          atLeast('batch job, of the loop', main.ratio, MIN_RATIO, '×'),
          ...light.figures,
          informs('batch job, of the loop, with a model that costs nearly nothing', light.ratio, '×'),
          ...(await measureMemory({ jobs: cheap.jobs, pid: cheap.pid, directory, few, rows, seed, progress })),
        ],
        data: { main, light },
      }
    } finally {
      await Promise.all([loop.stop(), ...running.map((served) => served.stop())])
      await rm(directory, { recursive: true, force: true })
    }
  },
}

async function serve(model: Uint8Array, parameters: Readonly<Record<string, string>>): Promise<Served> {
  const settings = parameters.readers === undefined ? {} : { SLIPWAY_INFERENCE_BATCH_READERS: parameters.readers }
  const { servers, stop } = await startInference(MODEL, model, { server: settings })
  const jobs = createClient(BatchPredictionService, { address: servers.server.address })
  return {
    jobs,
    pid: servers.server.process.pid ?? 0,
    model,
    stop: async () => {
      jobs.close()
      await stop()
    },
  }
}

interface CompareOptions {
  readonly loop: BenchProcess
  readonly few: string
  readonly rows: number
  readonly rounds: number
  readonly directory: string
  readonly progress: Progress
}

/** Loop and job in turn; the ratio is the median of those of the rounds. */
async function compareRates(kind: string, { jobs, model }: Served, options: CompareOptions) {
  const { loop, few, rows, rounds, directory, progress } = options
  const rates = { loop: [] as number[], job: [] as number[] }
  await runJob(jobs, few, join(directory, 'warm'))
  for (let round = 1; round <= rounds; round++) {
    progress(`${kind}: round ${round} of ${rounds}`)
    const message = {
      model: Buffer.from(model).toString('base64'),
      input: few,
      output: join(directory, 'loop.parquet'),
    }
    rates.loop.push(rows / ((await loop.ask<number>(message)) / 1000))
    rates.job.push(rows / ((await runJob(jobs, few, join(directory, `job-${round}`))) / 1000))
  }
  const ratio = median(rates.job.map((rate, index) => rate / (rates.loop[index] ?? Number.NaN)))
  const figures = [
    informs(`loop over ${rows} rows of ${FEATURES} columns, ${kind}`, median(rates.loop), 'rows/s'),
    informs(`batch job, ${kind}`, median(rates.job), 'rows/s'),
  ]
  return { rates, ratio, figures }
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
