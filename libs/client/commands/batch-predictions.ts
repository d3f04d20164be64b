/** `slipway batch …`: predictions for every row of files, or of what an endpoint has answered. */
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { MessageInitShape } from '@bufbuild/protobuf'
import {
  type BatchJob,
  BatchJobSchema,
  BatchJobState,
  type ColumnMappingSchema,
  FileFormat,
  RowErrorPolicy,
} from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import { Code, Failure } from '@slipway/rpc'
import { UsageError } from '../command.ts'
import { allPages, type Command, type Invocation, showList, showMessage, showNext } from '../invocation.ts'
import { momentText, parseMoment } from '../moment.ts'
import { endpointName, modelName, NameError, shortName, versionName, versionReference } from '../resource-name.ts'
import { bytesText, countText, enumText, fields, progress } from '../terminal.ts'

const RETRY_MS = 1000

const job = { name: 'job', doc: 'the job, such as batchJobs/nightly or nightly' }
const formats = { parquet: FileFormat.PARQUET, csv: FileFormat.CSV, jsonl: FileFormat.JSONL } as const

/** Commands about batch jobs. */
export const batchCommands: readonly Command[] = [
  {
    name: 'batch create',
    summary: 'predict every row of files, or of what an endpoint has answered, into Parquet',
    options: {
      model: { value: 'VERSION', doc: 'flights, flights/3 or flights@champion', required: true },
      output: { value: 'FOLDER', doc: 'where the results go; it is made, or is empty', required: true },
      input: { value: 'PATTERN', doc: "files, such as 'data/*.parquet', on storage that the servers see", many: true },
      format: { value: 'FORMAT', doc: 'default: by the name of the first file', values: Object.keys(formats) },
      columns: { value: 'INPUT=COLUMN,…', doc: 'columns of an input tensor; default: its features', many: true },
      endpoint: { value: 'ENDPOINT', doc: 'instead of files: what this endpoint has answered' },
      from: { value: 'TIME', doc: 'logged then or later' },
      to: { value: 'TIME', doc: 'logged before; default now' },
      'answered-by': { value: 'VERSION', doc: 'only what this version answered, such as flights/2' },
      key: { value: 'COLUMN', doc: 'a column of the input to copy into the results', many: true },
      outputs: { value: 'TENSOR,…', doc: 'output tensors; default all' },
      'rows-per-part': { value: 'NUMBER', doc: 'rows of one file of the results' },
      'rows-per-call': { value: 'NUMBER', doc: 'most rows of one run of the model' },
      'keep-errors': { doc: 'write rows that cannot be predicted with the reason, and go on' },
      id: { value: 'ID', doc: 'name the job; the same call again gives the same job' },
      'dry-run': { doc: 'check everything and start nothing' },
      follow: { doc: 'show the progress until it has ended' },
    },
    run: createJob,
  },
  { name: 'batch list', summary: 'the jobs, newest first', run: listJobs },
  { name: 'batch get', summary: 'one job and how far it is', arguments: [job], run: getJob },
  { name: 'batch watch', summary: 'the progress of a job until it has ended', arguments: [job], run: watch },
  { name: 'batch pause', summary: 'stop a job until it is resumed', arguments: [job], run: pauseJob },
  { name: 'batch resume', summary: 'let a paused job go on', arguments: [job], run: resumeJob },
  { name: 'batch cancel', summary: 'end a job for ever; finished parts stay', arguments: [job], run: cancelJob },
]

async function createJob(invocation: Invocation): Promise<void> {
  const { slipway, words, signal } = invocation
  const id = words.optional('id')
  const outputs = words.optional('outputs')
  const batchJob: MessageInitShape<typeof BatchJobSchema> = {
    name: id === undefined ? '' : jobName(id),
    modelVersion: modelVersion(words.text('model')),
    input: inputOf(invocation),
    outputDirectory: resolve(words.text('output')),
    options: {
      keyColumns: [...words.many('key')],
      outputs: outputs === undefined ? [] : outputs.split(','),
      rowsPerPart: wholeNumber('rows-per-part', words.optional('rows-per-part')),
      rowsPerCall: wholeNumber('rows-per-call', words.optional('rows-per-call')),
      rowErrors: words.flag('keep-errors') ? RowErrorPolicy.WRITE_ERROR : RowErrorPolicy.FAIL_JOB,
    },
  }
  const validateOnly = words.flag('dry-run')
  const made = await slipway.batchPredictions.createBatchJob({ batchJob, validateOnly }, { signal })
  if (words.flag('follow') && !validateOnly) await follow(invocation, made.name)
  else showMessage(invocation, BatchJobSchema, made, describeJob)
}

function inputOf({ words }: Invocation): NonNullable<MessageInitShape<typeof BatchJobSchema>['input']> {
  const paths = words.many('input')
  const endpoint = words.optional('endpoint')
  if ((endpoint === undefined) === (paths.length === 0)) {
    throw new UsageError('"slipway batch create" needs either --input PATTERN or --endpoint ENDPOINT')
  }
  if (endpoint === undefined) {
    const format = formats[(words.optional('format') ?? '') as keyof typeof formats] ?? FileFormat.UNSPECIFIED
    const columns = words.many('columns').map(mappingOf)
    return { case: 'files', value: { paths: paths.map((path) => resolve(path)), format, columns } }
  }
  const [from, to, version] = [words.optional('from'), words.optional('to'), words.optional('answered-by')]
  const now = new Date()
  return {
    case: 'predictionLog',
    value: {
      endpoint: endpointName(endpoint),
      modelVersion: version === undefined ? '' : versionName(version),
      ...(from === undefined ? {} : { startTime: parseMoment('--from', from, now) }),
      ...(to === undefined ? {} : { endTime: parseMoment('--to', to, now) }),
    },
  }
}

function mappingOf(text: string): MessageInitShape<typeof ColumnMappingSchema> {
  const at = text.indexOf('=')
  if (at <= 0) throw new UsageError(`--columns ${text}: must be INPUT=COLUMN,…, such as features=a,b`)
  const names = text.slice(at + 1).split(',')
  return { input: text.slice(0, at), columns: names.map((column) => ({ column })) }
}

/** A model, a version or an alias. */
function modelVersion(text: string): string {
  try {
    const { kind, name } = versionReference(text)
    if (kind !== 'digest') return name
  } catch (error) {
    if (!(error instanceof NameError)) throw error
  }
  return modelName(text)
}

async function listJobs(invocation: Invocation): Promise<void> {
  const { slipway } = invocation
  const found = await allPages(
    (pageToken) => slipway.batchPredictions.listBatchJobs({ pageToken }),
    (page) => page.batchJobs,
  )
  showList(invocation, BatchJobSchema, found, {
    header: ['job', 'state', 'version', 'rows', 'of', 'created'],
    row: ({ name, state, modelVersion: version, progress: done, createTime }) => [
      shortId(name),
      enumText(BatchJobState, state),
      shortName(version),
      countText(done?.rowsDone ?? 0n),
      done?.rowsTotal ? countText(done.rowsTotal) : '',
      momentText(createTime),
    ],
  })
}

async function getJob(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const found = await slipway.batchPredictions.getBatchJob({ name: jobName(words.text('job')) })
  showMessage(invocation, BatchJobSchema, found, describeJob)
}

async function pauseJob(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const moved = await slipway.batchPredictions.pauseBatchJob({ name: jobName(words.text('job')) })
  showMessage(invocation, BatchJobSchema, moved, describeJob)
}

async function resumeJob(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const moved = await slipway.batchPredictions.resumeBatchJob({ name: jobName(words.text('job')) })
  showMessage(invocation, BatchJobSchema, moved, describeJob)
}

async function cancelJob(invocation: Invocation): Promise<void> {
  const { slipway, words } = invocation
  const moved = await slipway.batchPredictions.cancelBatchJob({ name: jobName(words.text('job')) })
  showMessage(invocation, BatchJobSchema, moved, describeJob)
}

async function watch(invocation: Invocation): Promise<void> {
  await follow(invocation, jobName(invocation.words.text('job')))
}

/** Draws the progress until the job has ended. Ctrl-C ends the watching, not the job; a server that goes away is waited for. */
async function follow(invocation: Invocation, name: string): Promise<void> {
  const { slipway, terminal, signal, json } = invocation
  const line = progress(terminal, shortId(name))
  let last: BatchJob | undefined
  try {
    while (last === undefined || !hasEnded(last)) {
      try {
        for await (const { batchJob } of slipway.batchPredictions.watchBatchJob({ name }, { signal })) {
          last = batchJob ?? last
          if (last === undefined) continue
          if (json) showNext(invocation, BatchJobSchema, last, () => '')
          line.update(shareOf(last), noteOf(last))
        }
      } catch (error) {
        if (signal.aborted || !(error instanceof Failure) || error.code !== Code.UNAVAILABLE) throw error
        line.update(last === undefined ? 0 : shareOf(last), 'the server is away')
        await sleep(RETRY_MS, undefined, { signal })
      }
    }
  } finally {
    line.end()
  }
  if (!json) terminal.out(describeJob(last))
  if (last.state === BatchJobState.FAILED) throw new Error(`${shortId(name)} failed: ${last.message}`)
}

function hasEnded({ state }: BatchJob): boolean {
  return state >= BatchJobState.SUCCEEDED
}

function shareOf({ progress: done }: BatchJob): number {
  const total = Number(done?.rowsTotal ?? 0n)
  return total === 0 ? 0 : Math.min(1, Number((done?.rowsDone ?? 0n) + (done?.rowsUnderWay ?? 0n)) / total)
}

function noteOf({ state, progress: done }: BatchJob): string {
  if (state !== BatchJobState.RUNNING || done === undefined) return enumText(BatchJobState, state)
  const { rowsDone, rowsUnderWay, rowsTotal, rowsPerSecond, rowsFailed } = done
  const rows = `${countText(rowsDone + rowsUnderWay)} of ${countText(rowsTotal)} rows`
  const rate = rowsPerSecond === 0 ? '' : `, ${countText(Math.round(rowsPerSecond))} rows/s`
  return `${rows}${rate}${rowsFailed === 0n ? '' : `, ${countText(rowsFailed)} failed`}`
}

function describeJob({ progress: done, ...found }: BatchJob): string {
  const total = done?.rowsTotal ?? 0n
  return fields([
    ['job', shortId(found.name)],
    ['state', enumText(BatchJobState, found.state)],
    ['message', found.message],
    ['version', shortName(found.modelVersion)],
    ['digest', found.digest],
    ['output', found.outputDirectory],
    ['rows', total === 0n ? undefined : `${countText(done?.rowsDone ?? 0n)} of ${countText(total)}`],
    ['failed rows', done?.rowsFailed ? countText(done.rowsFailed) : undefined],
    ['parts', done?.partsTotal ? `${done.partsDone} of ${done.partsTotal}` : undefined],
    ['rows/s', done?.rowsPerSecond ? countText(Math.round(done.rowsPerSecond)) : undefined],
    ['written', done?.bytesWritten ? bytesText(Number(done.bytesWritten)) : undefined],
    ['created', momentText(found.createTime)],
    ['ended', found.endTime === undefined ? undefined : momentText(found.endTime)],
  ])
}

function wholeNumber(option: string, text: string | undefined): number {
  const value = Number(text ?? '0')
  if (Number.isSafeInteger(value) && value >= 0) return value
  throw new UsageError(`--${option} ${text}: must be a whole number`)
}

function jobName(text: string): string {
  const id = text.replace(/^batchJobs\//, '')
  if (/^[a-z][a-z0-9-]{0,62}$/.test(id)) return `batchJobs/${id}`
  throw new NameError(`${JSON.stringify(text)} is not a job: lower-case letters, digits and hyphens, a letter first`)
}

function shortId(name: string): string {
  return name.replace(/^batchJobs\//, '')
}
