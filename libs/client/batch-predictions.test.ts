import { resolve } from 'node:path'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt'
import {
  type BatchJob,
  BatchJobSchema,
  BatchJobState,
  BatchPredictionService,
  type CreateBatchJobRequest,
  FileFormat,
  RowErrorPolicy,
} from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import { Code, createServer, Failure, implement } from '@slipway/rpc'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { runWords } from './cli.fixture.ts'

const job = (fields: MessageInitShape<typeof BatchJobSchema> = {}): BatchJob =>
  create(BatchJobSchema, {
    name: 'batchJobs/nightly',
    modelVersion: 'models/flights/versions/3',
    outputDirectory: '/results',
    state: BatchJobState.RUNNING,
    createTime: timestampFromMs(Date.UTC(2026, 0, 2, 3, 4, 5)),
    ...fields,
  })
const running = job({ progress: { rowsDone: 400n, rowsTotal: 1000n, rowsUnderWay: 100n, rowsPerSecond: 50.4 } })
const done = job({
  state: BatchJobState.SUCCEEDED,
  progress: { rowsDone: 1000n, rowsTotal: 1000n, partsDone: 2, partsTotal: 2, rowsFailed: 7n, bytesWritten: 2048n },
})

let created: CreateBatchJobRequest[] = []
let moved: string[] = []
/** What each call of `watch` says before it ends; a failure ends it. */
let watches: (BatchJob | Failure)[][] = []

const move = (what: string) => async (request: { name: string }) => {
  moved.push(`${what} ${request.name}`)
  return job()
}
const server = createServer({
  listen: { host: '127.0.0.1', port: 0 },
  implementations: [
    implement(BatchPredictionService, {
      createBatchJob: async (request) => {
        created.push(request)
        return running
      },
      getBatchJob: move('get'),
      pauseBatchJob: move('pause'),
      resumeBatchJob: move('resume'),
      cancelBatchJob: move('cancel'),
      listBatchJobs: async ({ pageToken }) =>
        pageToken === ''
          ? { batchJobs: [running], nextPageToken: 'more' }
          : { batchJobs: [job({ ...done, name: 'batchJobs/old' })] },
      async *watchBatchJob() {
        for (const step of watches.shift() ?? []) {
          if (step instanceof Failure) throw step
          yield { batchJob: step }
        }
      },
    }),
  ],
})
let address = ''

beforeAll(async () => {
  address = (await server.start()).address
})
beforeEach(() => {
  created = []
  moved = []
  watches = []
})
afterAll(() => server.drain({ graceMs: 100 }))

const slipway = (...words: string[]) =>
  runWords(['batch', ...words], { env: { SLIPWAY_INFERENCE_ADDRESS: address }, drawsProgress: true })

describe('batch create', () => {
  test('asks for what its words say', async () => {
    const words = ['--model', 'flights@champion', '--output', 'results', '--input', 'a/*.csv', '--input', '/b.csv']
    const how = ['--format', 'csv', '--columns', 'features=origin,distance', '--key', 'id', '--outputs', 'p,q']
    const sizes = ['--rows-per-part', '5000', '--rows-per-call', '64', '--keep-errors', '--id', 'nightly']
    const { code, out } = await slipway('create', ...words, ...how, ...sizes)
    expect(code).toBe(0)
    expect(out).toContain('nightly')
    expect(created).toMatchObject([
      {
        validateOnly: false,
        batchJob: {
          name: 'batchJobs/nightly',
          modelVersion: 'models/flights/aliases/champion',
          outputDirectory: resolve('results'),
          input: {
            case: 'files',
            value: {
              paths: [resolve('a/*.csv'), '/b.csv'],
              format: FileFormat.CSV,
              columns: [{ input: 'features', columns: [{ column: 'origin' }, { column: 'distance' }] }],
            },
          },
          options: {
            keyColumns: ['id'],
            outputs: ['p', 'q'],
            rowsPerPart: 5000,
            rowsPerCall: 64,
            rowErrors: RowErrorPolicy.WRITE_ERROR,
          },
        },
      },
    ])
  })

  test('takes what an endpoint has answered, of a time and a version', async () => {
    const when = ['--from', '2026-01-01T00:00:00Z', '--to', '2026-01-02T00:00:00Z', '--answered-by', 'flights/2']
    await slipway('create', '--model', 'flights/3', '--output', 'r', '--endpoint', 'delays', ...when, '--dry-run')
    const [request] = created
    expect(request).toMatchObject({
      validateOnly: true,
      batchJob: {
        modelVersion: 'models/flights/versions/3',
        input: {
          case: 'predictionLog',
          value: { endpoint: 'endpoints/delays', modelVersion: 'models/flights/versions/2' },
        },
        options: { rowErrors: RowErrorPolicy.FAIL_JOB },
      },
    })
    const input = request?.batchJob?.input
    if (input?.case !== 'predictionLog' || !input.value.startTime || !input.value.endTime) throw new Error('no times')
    expect(timestampMs(input.value.startTime)).toBe(Date.UTC(2026, 0, 1))
    expect(timestampMs(input.value.endTime)).toBe(Date.UTC(2026, 0, 2))
  })

  test.each([
    [['--model', 'flights', '--output', 'r'], 'needs either --input PATTERN or --endpoint ENDPOINT'],
    [['--model', 'flights', '--output', 'r', '--input', 'a', '--endpoint', 'b'], 'needs either --input'],
    [['--model', 'flights', '--output', 'r', '--input', 'a', '--columns', 'a,b'], 'must be INPUT=COLUMN'],
    [['--model', 'flights', '--output', 'r', '--input', 'a', '--rows-per-part', 'many'], 'must be a whole number'],
    [['--model', 'flights', '--output', 'r', '--input', 'a', '--id', 'Nightly'], 'is not a job'],
    [['--output', 'r', '--input', 'a'], '--model'],
  ])('refuses %j and starts nothing', async (words, message) => {
    const { code, err } = await slipway('create', ...words)
    expect(code).toBe(2)
    expect(err).toContain(message)
    expect(created).toEqual([])
  })

  test('follows the job to its end', async () => {
    watches = [[running, done]]
    const words = ['create', '--model', 'flights', '--output', 'r', '--input', 'a', '--follow']
    const { code, out, err } = await slipway(...words)
    expect(code).toBe(0)
    expect(err).toContain(' 50 % 500 of 1 000 rows, 50 rows/s')
    expect(out).toMatch(/state +succeeded/)
    expect(out).toMatch(/rows +1 000 of 1 000\n/)
    expect(out).toMatch(/failed rows +7\n/)
    expect(out).toMatch(/written +2\.0 KiB\n/)
  })
})

describe('batch watch', () => {
  test('waits for a server that goes away', async () => {
    watches = [[running, new Failure(Code.UNAVAILABLE, 'AWAY', 'gone')], [done]]
    const { code, err, out } = await slipway('watch', 'nightly')
    expect(code).toBe(0)
    expect(err).toContain('the server is away')
    expect(out).toMatch(/state +succeeded/)
  })

  test('ends with an error when the job has failed, and says why', async () => {
    watches = [[job({ state: BatchJobState.FAILED, message: 'row 7 of a.csv: no number' })]]
    const { code, err } = await slipway('watch', 'nightly')
    expect(code).toBe(1)
    expect(err).toContain('nightly failed: row 7 of a.csv: no number')
  })

  test('with --json says each state in a line', async () => {
    watches = [[running, done]]
    const { out } = await slipway('watch', 'nightly', '--json')
    const states = out
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { state: string }).state)
    expect(states).toEqual(['BATCH_JOB_STATE_RUNNING', 'BATCH_JOB_STATE_SUCCEEDED'])
  })
})

test.each(['get', 'pause', 'resume', 'cancel'])('batch %s names the job and shows it', async (what) => {
  const { code, out } = await slipway(what, 'batchJobs/nightly')
  expect({ code, moved }).toEqual({ code: 0, moved: [`${what} batchJobs/nightly`] })
  expect(out).toMatch(/job +nightly\n/)
})

test('batch list shows the jobs of all pages', async () => {
  const { out } = await slipway('list')
  const lines = out.trim().split('\n')
  expect(
    lines.map((line) =>
      line
        .trim()
        .split(/\s{2,}/)
        .slice(0, 5),
    ),
  ).toEqual([
    ['JOB', 'STATE', 'VERSION', 'ROWS', 'OF'],
    ['nightly', 'running', 'flights/3', '400', '1 000'],
    ['old', 'succeeded', 'flights/3', '1 000', '1 000'],
  ])
})
