/** From what a caller asks for to a recipe: everything that can be wrong is found here, before anything is written. */
import { isAbsolute, normalize } from 'node:path'
import {
  type BatchJob,
  type ColumnMapping,
  FileFormat,
  type FileInput,
  type PredictionLogInput,
  RowErrorPolicy,
} from '@slipway/proto/slipway/inference/v1/batch_prediction_service'
import type { ModelVersion } from '@slipway/proto/slipway/registry/v1/model'
import { Code, Failure } from '@slipway/rpc'
import type { ModelTable } from '../model-table.ts'
import { refusal } from '../refusals.ts'
import type { Servable } from '../servable.ts'
import { InputError } from './input-error.ts'
import { checkPlace, type Folders, findFiles, formatOf } from './input-files.ts'
import { loggedColumn, logKeys } from './prediction-log.ts'
import type { Reader } from './reader.ts'
import type { Column } from './reader-protocol.ts'
import { ERROR_COLUMN, type Format, type KeyColumn, type Recipe } from './recipe.ts'
import { type Bindings, inputTensors, mapColumns, outputTensors } from './resolve-columns.ts'

/** Two of the groups of rows that DuckDB writes. */
const DEFAULT_ROWS_PER_PART = 245_760
const DEFAULT_ROWS_PER_CALL = 8192

/** Reads a version from the registry by its name or an alias; undefined where the server has no registry. */
export type FindVersion = ((name: string) => Promise<ModelVersion>) | undefined

/** What resolving needs. */
export interface ResolveOptions {
  readonly models: ModelTable
  readonly findVersion: FindVersion
  readonly reader: Reader
  readonly folders: Folders
}

/** What a job comes to. */
export interface Resolved {
  readonly recipe: Recipe
  readonly mappings: readonly ColumnMapping[]
}

const formats: Readonly<Record<FileFormat, Format | undefined>> = {
  [FileFormat.UNSPECIFIED]: undefined,
  [FileFormat.PARQUET]: 'parquet',
  [FileFormat.CSV]: 'csv',
  [FileFormat.JSONL]: 'jsonl',
}

/** Resolves a job. INVALID_ARGUMENT names the field, NOT_FOUND the model. */
export async function resolveJob(job: BatchJob, options: ResolveOptions): Promise<Resolved> {
  if (!isAbsolute(job.outputDirectory)) {
    throw Failure.invalid('batch_job.output_directory', 'is not an absolute path')
  }
  await checkPlace('batch_job.output_directory', job.outputDirectory, options.folders)
  const { served, bindings } = await findModel(job.modelVersion, options)
  const { signature, name, digest } = served
  if (!signature.takesRows) {
    const message = `${name} does not take rows: the first dimension of its tensors has a fixed size`
    throw new Failure(Code.FAILED_PRECONDITION, 'NO_ROWS', message)
  }
  const { input, options: given } = job
  const mappings = mapColumns(signature.inputs, input.case === 'files' ? input.value.columns : [], bindings)
  const inputs = inputTensors(signature.inputs, mappings)
  const outputs = outputTensors(signature.outputs, given?.outputs ?? [], bindings)
  const keys = given?.keyColumns ?? []
  const fixed = {
    job: job.name,
    version: name,
    digest,
    inputs,
    outputs,
    writesErrors: given?.rowErrors === RowErrorPolicy.WRITE_ERROR,
    rowsPerPart: given?.rowsPerPart || DEFAULT_ROWS_PER_PART,
    rowsPerCall: given?.rowsPerCall || DEFAULT_ROWS_PER_CALL,
  }
  const recipe: Recipe =
    input.case === 'predictionLog'
      ? { ...fixed, ...fromLog(input.value, keys, bindings, options) }
      : { ...fixed, ...(await fromFiles(filesOf(job), keys, mappings, options)) }
  checkNames(recipe)
  return { recipe, mappings }
}

async function findModel(name: string, { models, findVersion }: ResolveOptions) {
  const [, model = '', kind, which = ''] = /^models\/([^/]+)(?:\/(versions|aliases)\/(.+))?$/.exec(name) ?? []
  if (kind === 'aliases') {
    if (findVersion === undefined) throw refusal.unknownVersion(model, which)
    const version = await findVersion(name)
    const served = await models.acquire(model, version.name.split('/').at(-1) ?? '')
    return { served: sameDigest(served, version), bindings: version }
  }
  const served = await acquire(name, model, which, { models, findVersion })
  const version = await findVersion?.(served.name).catch(unlessUnknown)
  return { served: sameDigest(served, version), bindings: version ?? { features: [], outputs: [] } }
}

/** A version that is held. One that is only registered is told from one that nobody knows. */
async function acquire(
  name: string,
  model: string,
  number: string,
  { models, findVersion }: Pick<ResolveOptions, 'models' | 'findVersion'>,
): Promise<Servable> {
  try {
    return await models.acquire(model, number)
  } catch (error) {
    if (number === '' || !(error instanceof Failure) || error.code !== Code.NOT_FOUND) throw error
    if ((await findVersion?.(name).catch(unlessUnknown)) === undefined) throw error
    throw refusal.notHeld(name, error)
  }
}

/** A version that the registry does not know has no bindings. */
function unlessUnknown(error: unknown): undefined {
  if (error instanceof Failure && error.code === Code.NOT_FOUND) return undefined
  throw error
}

function sameDigest(served: Servable, version: ModelVersion | undefined): Servable {
  if (version === undefined || served.digest === version.digest) return served
  throw refusal.digestMismatch(served.name, version.digest, served.digest)
}

async function fromFiles(
  { paths, format: given }: FileInput,
  keys: readonly string[],
  mappings: readonly ColumnMapping[],
  { folders, reader }: ResolveOptions,
) {
  const files = await findFiles(paths, folders)
  const [first = ''] = files
  const format = formats[given] ?? formatOf(first)
  if (format === undefined) {
    throw Failure.invalid('batch_job.files.format', `cannot be told from the name ${first}: say which it is`)
  }
  const columns = await describe(reader, format, first)
  const has = (column: string): boolean => columns.some(({ name }) => name === column)
  for (const column of keys) if (!has(column)) throw noColumn('batch_job.options.key_columns', first, column)
  for (const { input, columns: sources } of mappings) {
    for (const { column } of sources) if (!has(column)) throw noColumn('batch_job.files.columns', first, column, input)
  }
  const type = format === 'parquet' ? '' : 'VARCHAR'
  return { format, paths: [...paths], keys: keys.map((column) => ({ column, type })) }
}

function filesOf({ input }: BatchJob): FileInput {
  if (input.case === 'files') return input.value
  throw Failure.invalid('batch_job.input', 'is not given')
}

async function describe(reader: Reader, format: Format, path: string): Promise<readonly Column[]> {
  try {
    return await reader.run({ kind: 'describe', format, path })
  } catch (error) {
    if (error instanceof InputError) throw Failure.invalid('batch_job.files.paths', error.message)
    throw error
  }
}

function fromLog(input: PredictionLogInput, keys: readonly string[], bindings: Bindings, options: ResolveOptions) {
  if (options.findVersion === undefined) {
    throw Failure.invalid('batch_job.prediction_log', 'needs a registry, which says what was logged')
  }
  if (bindings.features.length === 0) {
    throw Failure.invalid('batch_job.prediction_log', 'the version has no features by which to read the log')
  }
  const given = [...logKeys, ...bindings.outputs.map(({ output }) => loggedColumn(output))]
  const others = keys.filter((column) => !given.some((key) => key.column === column))
  const unknown = others.find((column) => !bindings.features.some(({ feature }) => feature === column))
  if (unknown !== undefined) throw noColumn('batch_job.options.key_columns', input.endpoint, unknown)
  const own: KeyColumn[] = others.map((column) => ({ column, type: 'VARCHAR' }))
  return { format: 'jsonl' as const, paths: [], keys: [...given, ...own] }
}

function noColumn(field: string, path: string, column: string, input?: string): Failure {
  const why = input === undefined ? '' : `, which input ${input} needs`
  return Failure.invalid(field, `${path} has no column ${column}${why}`)
}

/** The columns of the results must have names of their own. */
function checkNames({ keys, outputs, writesErrors }: Recipe): void {
  const names = [
    ...keys.map(({ column }) => column),
    ...outputs.flatMap(({ columns }) => columns.map(({ name }) => name)),
    ...(writesErrors ? [ERROR_COLUMN] : []),
  ].map((name) => name.toLowerCase())
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) {
    throw Failure.invalid('batch_job.options.key_columns', `the results would have two columns ${twice}`)
  }
}

/** The folder without detours. */
export function outputPath(path: string): string {
  return normalize(path).replace(/(?<=.)\/+$/, '')
}
