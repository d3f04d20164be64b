/**
 * Writes the results of one part: its rows become a table (checked and cast in the database), their tensors go out as
 * calls of which a few are on their way at once, the answers become a second table in the same order, and both together
 * a Parquet file. What is in memory is bounded by the part and by the calls on their way.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { DuckDBConnection } from '@duckdb/node-api'
import { AnswerTable } from './answer-table.ts'
import { FIRST_CALL_ROWS, nextCallRows } from './call-size.ts'
import { readCsvHeader } from './csv-header.ts'
import { describe } from './cut-input.ts'
import { InputError } from './input-error.ts'
import { answersStatement, copyStatement, literal, loadStatement, tensorsStatement } from './part-query.ts'
import type { CallErrors, ReaderLimits, ReaderTask, WrittenPart } from './reader-protocol.ts'
import { ERROR_COLUMN, type Part, type Recipe } from './recipe.ts'
import { createTensorRows } from './tensor-columns.ts'

const CHUNK_ROWS = 2048

/** What came back for a call. */
export interface CallAnswer {
  readonly tensors: readonly Buffer[]
  readonly errors: CallErrors
  readonly elapsedMs: number
}

/** Asks for the answers to so many rows, of which the first is this one of the file. */
export type AskRows = (inputs: readonly Buffer[], rows: number, first: number) => Promise<CallAnswer>

type WriteTask = ReaderTask & { readonly kind: 'write' }

/** Does the task; an InputError names file, row and column of what is wrong with the input. */
export async function writePart(
  connection: DuckDBConnection,
  task: WriteTask,
  limits: ReaderLimits,
  ask: AskRows,
): Promise<WrittenPart> {
  const { recipe, part, source, target } = task
  const slice = recipe.format === 'parquet' ? undefined : join(limits.tempDirectory, `rows-${process.pid}.txt`)
  try {
    const columns = await describe(connection, recipe.format, source)
    if (slice !== undefined) await copySlice(source, slice, part)
    const path = slice ?? source
    const newline = recipe.format === 'csv' ? (await readCsvHeader(source)).newline : '\n'
    const where = { path, first: part.first, rows: part.rows, columns, newline }
    await run(connection, loadStatement(recipe, where), source)
  } finally {
    if (slice !== undefined) await rm(slice, { force: true })
  }
  if (recipe.format === 'csv') await takeRejects(connection, recipe, part, source)
  const failed = await checkRows(connection, recipe, part, source)
  await connection.run(answersStatement(recipe))
  const answers = new AnswerTable(recipe.outputs, await connection.createAppender('answers'))
  const failedCalls = await predictRows(connection, { recipe, part, answers, limits, ask })
  answers.close()
  await connection.run(copyStatement(recipe, target, failed > 0))
  const { sizeBytes, digest } = await seal(target)
  return { rows: part.rows, rowsFailed: failed + failedCalls, sizeBytes, digest }
}

/** What is known of a part that was written before. */
export async function inspectPart(connection: DuckDBConnection, path: string): Promise<WrittenPart> {
  const described = await connection.runAndReadAll(`describe select * from read_parquet(${literal(path)})`)
  const hasErrors = described.getRowsJS().some(([name]) => name === ERROR_COLUMN)
  const failed = hasErrors ? `count(${ERROR_COLUMN})` : '0'
  const counted = await connection.runAndReadAll(`select count(*), ${failed} from read_parquet(${literal(path)})`)
  const [rows, rowsFailed] = counted.getRows()[0] ?? []
  return { rows: Number(rows), rowsFailed: Number(rowsFailed), ...(await digestOf(path)) }
}

async function run(connection: DuckDBConnection, sql: string, source: string): Promise<void> {
  try {
    await connection.run(sql)
  } catch (cause) {
    const [kind = ''] = String(cause instanceof Error ? cause.message : cause).split(':', 1)
    if (/memory/i.test(kind)) throw cause
    throw new InputError(`${source} cannot be read (${kind})`, { cause })
  }
}

async function copySlice(source: string, target: string, { offset, length }: Part): Promise<void> {
  const range = { start: offset, end: offset + length - 1 }
  const file = await open(target, 'w')
  await pipeline(createReadStream(source, range), file.createWriteStream())
}

/** Rows that the reader of CSV could not take apart. They go to the end of the part. */
async function takeRejects(connection: DuckDBConnection, recipe: Recipe, part: Part, source: string): Promise<void> {
  const rejects = `select line, min(error_type) from reject_errors group by line order by line`
  const found = (await connection.runAndReadAll(rejects)).getRows()
  const [first] = found
  if (first === undefined) return
  if (!recipe.writesErrors) {
    throw new InputError(`${source} row ${part.first + Number(first[0])}: ${reasonOf(first[1])}`)
  }
  for (const [, reason] of found) {
    await connection.run(`insert into src (${ERROR_COLUMN}) values (${literal(reasonOf(reason))})`)
  }
}

function reasonOf(type: unknown): string {
  const words = String(type).toLowerCase().replaceAll('_', ' ')
  return words === 'missing columns' || words === 'too many columns' ? words : `not a row of CSV (${words})`
}

/** Rows that have an error; an InputError for the first when they fail the job. */
async function checkRows(connection: DuckDBConnection, recipe: Recipe, part: Part, source: string): Promise<number> {
  const counted = await connection.runAndReadAll(`select count(*), count(${ERROR_COLUMN}) from src`)
  const [rows, failed] = (counted.getRows()[0] ?? []).map(Number)
  if (rows !== part.rows) {
    const message = `${source} has ${rows} rows from row ${part.first + 1} on where ${part.rows} were counted before`
    throw new InputError(`${message}: it has changed`)
  }
  if (failed === undefined || failed === 0) return 0
  if (recipe.writesErrors) return failed
  const sql = `select rowid, ${ERROR_COLUMN} from src where ${ERROR_COLUMN} is not null order by rowid limit 1`
  const [row, why] = (await connection.runAndReadAll(sql)).getRows()[0] ?? []
  throw new InputError(`${source} row ${part.first + Number(row) + 1}: ${why}`)
}

interface Predicting {
  readonly recipe: Recipe
  readonly part: Part
  readonly answers: AnswerTable
  readonly limits: ReaderLimits
  readonly ask: AskRows
}

/** Sends all rows without an error as calls and takes the answers in order. Returns how many rows have none. */
async function predictRows(connection: DuckDBConnection, options: Predicting): Promise<number> {
  const { recipe, answers, limits, ask, part } = options
  const tensors = recipe.inputs.map((tensor) => createTensorRows(tensor, recipe.rowsPerCall + CHUNK_ROWS))
  const underWay: { readonly rows: number; readonly answer: Promise<CallAnswer> }[] = []
  let callRows = Math.min(FIRST_CALL_ROWS, recipe.rowsPerCall)
  let [waiting, sent, failed] = [0, 0, 0]
  const settle = async (): Promise<void> => {
    const [first] = underWay.splice(0, 1)
    if (first === undefined) return
    const answer = await first.answer
    failed += answer.errors.length
    callRows = nextCallRows(callRows, answer.elapsedMs, recipe.rowsPerCall)
    answers.add(answer.tensors, first.rows, answer.errors)
  }
  const send = async (rows: number): Promise<void> => {
    while (underWay.length >= limits.callsInFlight) await settle()
    const inputs = tensors.map((tensor) => tensor.take(rows))
    const answer = ask(inputs, rows, part.first + sent)
    // It is awaited in its turn; until then a failure must not count as one that nobody handles.
    answer.catch(() => undefined)
    underWay.push({ rows, answer })
    waiting -= rows
    sent += rows
  }
  const result = await connection.stream(tensorsStatement(recipe))
  for (;;) {
    const chunk = await result.fetchChunk()
    if (chunk === null || chunk.rowCount === 0) break
    let column = 0
    for (const [index, { columns }] of recipe.inputs.entries()) {
      tensors[index]?.add(chunk, column, chunk.rowCount)
      column += columns.length
    }
    waiting += chunk.rowCount
    while (waiting >= callRows) await send(callRows)
  }
  if (waiting > 0) await send(waiting)
  while (underWay.length > 0) await settle()
  return failed
}

/** Makes a finished file durable. */
async function seal(path: string): Promise<{ sizeBytes: number; digest: string }> {
  const file = await open(path, 'r+')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
  return await digestOf(path)
}

async function digestOf(path: string): Promise<{ sizeBytes: number; digest: string }> {
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer)
  return { sizeBytes: (await stat(path)).size, digest: `sha256:${hash.digest('hex')}` }
}
