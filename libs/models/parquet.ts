/**
 * Rows of a training set that lies in Parquet files, one after another: what `buildReferenceDistributions` counts. It is
 * a module of its own because only who reads Parquet needs DuckDB.
 */
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import type { RowValue, TrainingRow } from './reference-distributions.ts'

/** Which rows, and what of them. */
export interface ParquetSource {
  /** Path of a file, or a pattern such as `snapshot/*.parquet`. */
  readonly path: string
  /** The column that says when a row was true: a timestamp, a date, or whole microseconds since the epoch. */
  readonly timeColumn: string
  /** The columns of features and outputs; text and enums are read as text, everything else as numbers. */
  readonly columns: readonly string[]
}

/** Reads the rows; a RangeError names a column that the files have not, or a row without a time. */
export async function* parquetRows(source: ParquetSource): AsyncGenerator<TrainingRow> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' })
  const connection = await instance.connect()
  try {
    const types = await columnTypes(connection, source.path)
    const selected = source.columns.map((column) => valueExpression(column, typeOf(types, column)))
    const time = timeExpression(source.timeColumn, typeOf(types, source.timeColumn))
    const sql = `SELECT ${[time, ...selected].join(', ')} FROM read_parquet($path)`
    const result = await connection.stream(sql, { path: source.path })
    for await (const rows of result.yieldRowsJs()) {
      for (const [timeMicros, ...cells] of rows) {
        if (typeof timeMicros !== 'bigint') throw new RangeError(`a row has no ${source.timeColumn}`)
        const values = Object.fromEntries(source.columns.map((column, index) => [column, cells[index] as RowValue]))
        yield { timeMicros, values }
      }
    }
  } finally {
    connection.closeSync()
    instance.closeSync()
  }
}

async function columnTypes(connection: DuckDBConnection, path: string): Promise<ReadonlyMap<string, string>> {
  const described = await connection.runAndReadAll('DESCRIBE SELECT * FROM read_parquet($path)', { path })
  return new Map(described.getRowsJS().map(([name, type]) => [String(name), String(type)]))
}

function typeOf(types: ReadonlyMap<string, string>, column: string): string {
  const type = types.get(column)
  if (type === undefined) throw new RangeError(`there is no column ${column}, only ${[...types.keys()].join(', ')}`)
  return type
}

function valueExpression(column: string, type: string): string {
  const isText = type === 'VARCHAR' || type.startsWith('ENUM')
  return `CAST(${quoted(column)} AS ${isText ? 'VARCHAR' : 'DOUBLE'})`
}

function timeExpression(column: string, type: string): string {
  if (type.startsWith('TIMESTAMP')) return `epoch_us(${quoted(column)})`
  if (type === 'DATE') return `epoch_us(CAST(${quoted(column)} AS TIMESTAMP))`
  if (type.endsWith('INT') || type === 'INTEGER') return `CAST(${quoted(column)} AS BIGINT)`
  throw new RangeError(`${column} holds ${type}, not times`)
}

function quoted(column: string): string {
  return `"${column.replaceAll('"', '""')}"`
}
