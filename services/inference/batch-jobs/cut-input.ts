/** Cuts the files of a job into parts. The same files give the same parts. */
import type { DuckDBConnection } from '@duckdb/node-api'
import { readCsvHeader } from './csv-header.ts'
import { cutText } from './cut-text.ts'
import { InputError } from './input-error.ts'
import { columnsOf, describeStatement, literal } from './part-query.ts'
import type { Column } from './reader-protocol.ts'
import { type Format, MAX_PARTS, type Part, type Plan, type Recipe } from './recipe.ts'

/** Cuts all files; an InputError names the file that cannot be read or has not the columns of the recipe. */
export async function cutInput(connection: DuckDBConnection, recipe: Recipe, files: readonly string[]): Promise<Plan> {
  const parts: Part[] = []
  for (const [file, path] of files.entries()) {
    const columns = await describe(connection, recipe.format, path)
    // A line of JSON may leave a column out: that is a missing value.
    const missing = recipe.format === 'jsonl' ? undefined : columnsOf(recipe).find((name) => !has(columns, name))
    if (missing !== undefined) throw new InputError(`${path} has no column ${missing}`)
    parts.push(...(await cutFile(connection, recipe, path, file)))
    if (parts.length > MAX_PARTS) {
      throw new InputError(`the input has more than ${MAX_PARTS} parts: take more rows a part`)
    }
  }
  return { files, parts, rows: parts.reduce((sum, { rows }) => sum + rows, 0) }
}

/** The columns of a file. */
export async function describe(connection: DuckDBConnection, format: Format, path: string): Promise<readonly Column[]> {
  if (format === 'csv') return (await readCsvHeader(path)).names.map((name) => ({ name, type: 'VARCHAR' }))
  try {
    const described = await connection.runAndReadAll(describeStatement(format, path))
    return described.getRowsJS().map(([name, type]) => ({ name: String(name), type: String(type) }))
  } catch (cause) {
    throw new InputError(`${path} cannot be read as ${format}`, { cause })
  }
}

async function cutFile(connection: DuckDBConnection, recipe: Recipe, path: string, file: number): Promise<Part[]> {
  const { format, rowsPerPart } = recipe
  if (format !== 'parquet') return await cutText(path, { file, rowsPerPart, isCsv: format === 'csv' })
  const counted = await connection.runAndReadAll(`select num_rows from parquet_file_metadata(${literal(path)})`)
  const rows = Number(counted.getRows()[0]?.[0] ?? 0)
  const parts: Part[] = []
  for (let first = 0; first < rows; first += rowsPerPart) {
    parts.push({ file, first, rows: Math.min(rowsPerPart, rows - first), offset: 0, length: 0 })
  }
  return parts
}

function has(columns: readonly Column[], name: string): boolean {
  return columns.some((column) => column.name === name)
}
