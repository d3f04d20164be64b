/** Spines held against the features that are wanted for them, before anything is joined. */
import type { DuckDBConnection } from '@duckdb/node-api'
import { ValueType } from '@slipway/proto/slipway/features/v1/value'
import { literal, quoted, sqlTypes } from './columns.ts'
import type { JoinTask } from './offline-store.ts'
import { reservedColumns } from './point-in-time.ts'

/** A wrong spine, which is the caller's problem; the message begins with the request's field and a colon. */
export class SpineError extends Error {}

/** SQL types of a spine's column that are taken as a key of a type: the same values, never rounded or parsed. */
const keyTypes: Readonly<Record<ValueType, RegExp>> = {
  [ValueType.UNSPECIFIED]: /^$/,
  [ValueType.DOUBLE]: /^$/,
  [ValueType.BOOL]: /^BOOLEAN$/,
  [ValueType.INT64]: /^(TINYINT|SMALLINT|INTEGER|BIGINT|UTINYINT|USMALLINT|UINTEGER)$/,
  [ValueType.STRING]: /^(VARCHAR|ENUM\(.*\))$/,
  [ValueType.BYTES]: /^BLOB$/,
  [ValueType.TIMESTAMP]: /^TIMESTAMP(_S|_MS| WITH TIME ZONE)?$/,
}

/** Checks a spine; gives the SQL of its time in microseconds since the epoch. Throws `SpineError`. */
export async function checkSpine(connection: DuckDBConnection, task: JoinTask): Promise<string> {
  const columns = await columnsOf(connection, task.spinePath)
  const time = timeOf(columns, task.timeColumn)
  const lower = new Map([...columns.keys()].map((name) => [name.toLowerCase(), name]))
  for (const { name, type } of task.views.flatMap(({ keys }) => keys)) {
    const found = columns.get(name)
    if (found === undefined) {
      throw new SpineError(`spine_digest: the spine has no column ${name}, a join key of the feature service`)
    }
    if (keyTypes[type]?.test(found) !== true) {
      throw new SpineError(`spine_digest: the join key ${name} is ${sqlTypes[type]?.toUpperCase()}, not ${found}`)
    }
  }
  for (const name of reservedColumns) {
    if (lower.has(name)) throw new SpineError(`spine_digest: a spine cannot have a column ${lower.get(name)}`)
  }
  for (const { name } of task.columns) {
    const taken = [name, `${name}__status`, `${name}__event_time`].map((each) => lower.get(each)).find(Boolean)
    if (taken !== undefined) {
      throw new SpineError(`spine_digest: the spine has a column ${taken}, the name of a feature's column`)
    }
  }
  const nulls = await connection.runAndReadAll(
    `select count(*)::integer from read_parquet(${literal(task.spinePath)}) where ${time} is null`,
  )
  if (nulls.getRows()[0]?.[0] !== 0) throw new SpineError(`time_column: ${task.timeColumn} has rows without a time`)
  return time
}

async function columnsOf(connection: DuckDBConnection, path: string): Promise<Map<string, string>> {
  try {
    const described = await connection.runAndReadAll(`describe select * from read_parquet(${literal(path)})`)
    return new Map(described.getRows().map((row) => [String(row[0]), String(row[1])]))
  } catch (error) {
    throw new SpineError(`spine_digest: is not a Parquet file (${withoutPath(error, path)})`)
  }
}

/** What DuckDB says, on one line and without the place of the file, which is nobody's business. */
function withoutPath(error: unknown, path: string): string {
  const [line = ''] = (error instanceof Error ? error.message : String(error)).split('\n')
  return line.replaceAll(path, 'the spine')
}

function timeOf(columns: ReadonlyMap<string, string>, name: string): string {
  const type = columns.get(name)
  const column = quoted(name)
  switch (type) {
    case undefined:
      throw new SpineError(`time_column: the spine has no column ${name}`)
    case 'TIMESTAMP':
    case 'TIMESTAMP WITH TIME ZONE':
    case 'TIMESTAMP_S':
    case 'TIMESTAMP_MS':
      return `epoch_us(${column})`
    case 'TIMESTAMP_NS':
      // Down, also before 1970, as everywhere else; a cast would go towards zero.
      return `((epoch_ns(${column}) - (epoch_ns(${column}) % 1000 + 1000) % 1000) // 1000)`
    default:
      throw new SpineError(`time_column: ${name} is ${type}, not TIMESTAMP`)
  }
}
