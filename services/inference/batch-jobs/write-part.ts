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
import { type AskRows, Calls } from './calls.ts'
import { readCsvHeader } from './csv-header.ts'
import { describe } from './cut-input.ts'
import { InputError } from './input-error.ts'
import {
  answersStatement,
  copyStatement,
  directStatement,
  literal,
  loadStatement,
  type PartSource,
  tensorsStatement,
} from './part-query.ts'
import type { Column, ReaderLimits, ReaderTask, WrittenPart } from './reader-protocol.ts'
import { ERROR_COLUMN, type Part, type Recipe } from './recipe.ts'

/** Two ways to one database: whatever else is done where rows are streamed ends the stream, so answers go another way. */
export interface Connections {
  readonly connection: DuckDBConnection
  readonly answering: DuckDBConnection
}

type WriteTask = ReaderTask & { readonly kind: 'write' }

/** Does the task; an InputError names file, row and column of what is wrong with the input. */
export async function writePart(
  connections: Connections,
  task: WriteTask,
  limits: ReaderLimits,
  ask: AskRows,
): Promise<WrittenPart> {
  const { recipe, part, source, target } = task
  const { connection } = connections
  const columns = await describe(connection, recipe.format, source)
  const where = { path: source, first: part.first, rows: part.rows, columns }
  const predicting = { ...connections, recipe, part, source, limits, ask }
  const direct = directStatement(recipe, where)
  const rowsFailed =
    (direct === undefined ? undefined : await writeDirectly(predicting, direct, where, target)) ??
    (await writeCarefully(predicting, columns, target))
  return { rows: part.rows, rowsFailed, ...(await seal(target)) }
}

/** Reads the rows as they are, and the keys once the answers are there; undefined when a row has something wrong. */
async function writeDirectly(
  predicting: Predicting,
  direct: string,
  source: PartSource,
  target: string,
): Promise<number | undefined> {
  const { connection, recipe } = predicting
  const failed = await predictRows(predicting, direct)
  if (failed === undefined) return undefined
  await connection.run(copyStatement(recipe, target, { kind: 'source', source }))
  return failed
}

/** Puts the rows into a table first, where each is looked at; returns how many of them failed. */
async function writeCarefully(predicting: Predicting, columns: readonly Column[], target: string): Promise<number> {
  const { connection, recipe, part, source, limits } = predicting
  const slice = recipe.format === 'parquet' ? undefined : join(limits.tempDirectory, `rows-${process.pid}.txt`)
  try {
    if (slice !== undefined) await copySlice(source, slice, part)
    const newline = recipe.format === 'csv' ? (await readCsvHeader(source)).newline : '\n'
    const where = { path: slice ?? source, first: part.first, rows: part.rows, columns, newline }
    await run(connection, loadStatement(recipe, where), source)
  } finally {
    if (slice !== undefined) await rm(slice, { force: true })
  }
  if (recipe.format === 'csv') await takeRejects(connection, recipe, part, source)
  const failed = await checkRows(connection, recipe, part, source)
  const failedCalls = (await predictRows(predicting, tensorsStatement(recipe), part.rows - failed)) ?? 0
  await connection.run(copyStatement(recipe, target, { kind: 'table', hasErrors: failed > 0 }))
  await connection.run('drop table src')
  return failed + failedCalls
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
    throw changed(source, part, rows ?? 0)
  }
  if (failed === undefined || failed === 0) return 0
  if (recipe.writesErrors) return failed
  const sql = `select rowid, ${ERROR_COLUMN} from src where ${ERROR_COLUMN} is not null order by rowid limit 1`
  const [row, why] = (await connection.runAndReadAll(sql)).getRows()[0] ?? []
  throw new InputError(`${source} row ${part.first + Number(row) + 1}: ${why}`)
}

function changed(source: string, { first, rows }: Part, found: number): InputError {
  const message = `${source} has ${found} rows from row ${first + 1} on where ${rows} were counted before`
  return new InputError(`${message}: it has changed`)
}

interface Predicting extends Connections {
  readonly recipe: Recipe
  readonly part: Part
  readonly source: string
  readonly limits: ReaderLimits
  readonly ask: AskRows
}

/**
 * Sends the rows of a query as calls and puts the answers into the table `answers`, in order. Returns how many rows have
 * none. `checked` says how many rows there are when they were looked at before; otherwise all of the part are meant, and
 * undefined is returned when a value of theirs makes the query fail.
 */
async function predictRows(predicting: Predicting, sql: string, checked?: number): Promise<number | undefined> {
  const { connection, answering, recipe, part, source } = predicting
  await answering.run(answersStatement(recipe))
  const answers = new AnswerTable(recipe, await answering.createAppender('answers'))
  const calls = new Calls(predicting, answers)
  let rows = 0
  try {
    const result = await connection.stream(sql)
    for (;;) {
      const chunk = await result.fetchChunk().catch((error: unknown) => {
        if (checked !== undefined) throw error
        return undefined
      })
      if (chunk === undefined) return undefined
      if (chunk === null || chunk.rowCount === 0) break
      rows += chunk.rowCount
      await calls.add(chunk)
    }
    await calls.end()
  } finally {
    answers.close()
  }
  if (rows !== (checked ?? part.rows)) throw changed(source, part, rows)
  return calls.failed
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
