/**
 * The process that runs DuckDB: away from the serving process, with bounds on threads and memory of its own. It takes
 * one task at a time from its parent and ends with it.
 */
import { open, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type DuckDBAppender, type DuckDBConnection, DuckDBInstance, DuckDBTimestampValue } from '@duckdb/node-api'
import { ValueType } from '@slipway/proto/slipway/features/v1/value'
import { decodeRows, type JournalRow, type Part } from '../journal.ts'
import { unpackValues } from '../packing.ts'
import type { FeatureValue } from '../values.ts'
import type { TypedColumn, ViewVersion } from '../view.ts'
import { literal, sqlTypes } from './columns.ts'
import type { FlushTask, JoinTask } from './offline-store.ts'
import { joinSteps } from './point-in-time.ts'
import type { WorkerAnswer, WorkerLimits, WorkerResult, WorkerTask } from './protocol.ts'
import { checkSpine, SpineError } from './spine-check.ts'

const limits = JSON.parse(process.argv[2] ?? '{}') as WorkerLimits
const send = (answer: WorkerAnswer) => void process.send?.(answer)

process.on('disconnect', () => process.exit(0))
process.on('message', (task: WorkerTask) => {
  run(task).then(
    (result) => send({ id: task.id, result }),
    (error: unknown) => send({ id: task.id, ...problemOf(error) }),
  )
})

async function run(task: WorkerTask): Promise<WorkerResult> {
  const instance = await DuckDBInstance.create(':memory:', {
    threads: String(limits.threads),
    memory_limit: `${limits.memoryMiB}MiB`,
    temp_directory: limits.tempDirectory,
  })
  const connection = await instance.connect()
  try {
    await connection.run(`set TimeZone = 'UTC'`)
    if (task.kind === 'flush') return await flush(connection, task.flush)
    return await joinSpine(connection, task.join, (done, stage) => send({ id: task.id, done, stage }))
  } finally {
    connection.closeSync()
    instance.closeSync()
  }
}

function problemOf(error: unknown): { error: string; invalid: boolean } {
  const message = error instanceof Error ? error.message : String(error)
  return { error: message, invalid: error instanceof SpineError }
}

async function joinSpine(
  connection: DuckDBConnection,
  task: JoinTask,
  onProgress: (done: number, stage: string) => void,
): Promise<number> {
  const time = await checkSpine(connection, task)
  const finalPath = task.outputPath
  const temporary = `${finalPath}.part`
  for (const { sql, done, stage } of joinSteps({ ...task, outputPath: temporary }, time)) {
    onProgress(Math.max(0, done - 0.05), stage)
    await connection.run(sql)
  }
  await rename(temporary, finalPath)
  const count = await connection.runAndReadAll('select count(*)::integer from spine')
  return Number(count.getRows()[0]?.[0] ?? 0)
}

/** Moves a view's rows from the journal into a part; memory does not grow with their number. */
async function flush(connection: DuckDBConnection, task: FlushTask): Promise<Part | undefined> {
  const { view } = task
  await connection.run(`create or replace temp table part (${partColumns(view)})`)
  const appender = await connection.createAppender('part')
  const database = new DatabaseSync(task.databasePath, { readOnly: true, readBigInts: true })
  let [firstRevision, lastRevision, rowCount] = [0n, 0n, 0]
  try {
    const batches = database
      .prepare(
        'select first_revision, rows from journal where table_id = ? and last_revision <= ? order by first_revision',
      )
      .iterate(view.tableId, task.lastRevision)
    for (const batch of batches) {
      let revision = batch.first_revision as bigint
      if (rowCount === 0) firstRevision = revision
      for (const row of decodeRows(batch.rows as Uint8Array)) {
        appendRow(appender, row, revision, view)
        lastRevision = revision++
        rowCount++
      }
    }
  } finally {
    database.close()
  }
  appender.closeSync()
  if (rowCount === 0) return undefined
  const path = `${view.tableId}-${firstRevision}-${lastRevision}.parquet`
  const whole = join(task.directory, path)
  // The child of a process that was killed may still be at the same part.
  const temporary = `${whole}.${process.pid}.part`
  await connection.run(`copy part to ${literal(temporary)} (format parquet, compression zstd)`)
  await syncAndRename(temporary, whole)
  return { tableId: view.tableId, firstRevision, lastRevision, path, rowCount }
}

/** Gives a finished file its name, so that both survive the loss of power. */
async function syncAndRename(temporary: string, whole: string): Promise<void> {
  await synced(temporary)
  await rename(temporary, whole)
  // Windows cannot open a folder; there the file system journals renames by itself.
  if (process.platform !== 'win32') await synced(dirname(whole))
}

async function synced(path: string): Promise<void> {
  const file = await open(path, 'r')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

function partColumns(view: ViewVersion): string {
  return [
    ...view.keys.map(({ type }, place) => `k${place} ${sqlTypes[type]}`),
    'event bigint',
    'created bigint',
    'sequence bigint',
    'revision bigint',
    'deleted boolean',
    ...view.features.map(({ type }, place) => `f${place} ${sqlTypes[type]}`),
  ].join(', ')
}

function appendRow(appender: DuckDBAppender, row: JournalRow, revision: bigint, view: ViewVersion): void {
  appendValues(appender, unpackValues(row.key, view.keys.length), view.keys)
  for (const number of [row.eventMicros, row.createdMicros, row.sequence, revision]) appender.appendBigInt(number)
  appender.appendBoolean(row.deleted)
  appendValues(appender, unpackValues(row.payload, view.features.length), view.features)
  appender.endRow()
}

function appendValues(
  appender: DuckDBAppender,
  values: readonly FeatureValue[],
  columns: readonly TypedColumn[],
): void {
  columns.forEach(({ type }, index) => {
    appendValue(appender, values[index] ?? null, type)
  })
}

function appendValue(appender: DuckDBAppender, value: FeatureValue, type: ValueType): void {
  if (value === null) appender.appendNull()
  else if (type === ValueType.TIMESTAMP) appender.appendTimestamp(new DuckDBTimestampValue(value as bigint))
  else if (typeof value === 'number') appender.appendDouble(value)
  else if (typeof value === 'bigint') appender.appendBigInt(value)
  else if (typeof value === 'boolean') appender.appendBoolean(value)
  else if (typeof value === 'string') appender.appendVarchar(value)
  else appender.appendBlob(value)
}
