/**
 * The SQL of a part: rows of a source become a table of key columns `k0…`, tensor columns `t0_0…` that are cast already, and
 * `error`, which says what is wrong with a row, never what its values are.
 */
import type { Datatype } from '@slipway/onnx'
import type { Column } from './reader-protocol.ts'
import { ERROR_COLUMN, type InputColumn, type InputTensor, type Recipe, widthOf } from './recipe.ts'

/** The SQL type in which values of a datatype are read; FP16 is narrowed from FLOAT afterwards. */
export const sqlTypes: Readonly<Record<Exclude<Datatype, 'BF16'>, string>> = {
  BOOL: 'BOOLEAN',
  UINT8: 'UTINYINT',
  UINT16: 'USMALLINT',
  UINT32: 'UINTEGER',
  UINT64: 'UBIGINT',
  INT8: 'TINYINT',
  INT16: 'SMALLINT',
  INT32: 'INTEGER',
  INT64: 'BIGINT',
  FP16: 'FLOAT',
  FP32: 'FLOAT',
  FP64: 'DOUBLE',
  BYTES: 'VARCHAR',
}

const integers = /^U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)$/
const floats = new Set<Datatype>(['FP16', 'FP32', 'FP64'])

/** An identifier. */
export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** A text. */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

/** The type of a tensor's values in SQL. */
export function sqlTypeOf(datatype: Datatype): string {
  if (datatype === 'BF16') throw new RangeError('the runtime cannot carry BF16')
  return sqlTypes[datatype]
}

/** Columns of the input that a recipe reads, each once. */
export function columnsOf({ inputs, keys }: Pick<Recipe, 'inputs' | 'keys'>): readonly string[] {
  const names = inputs.flatMap(({ columns }) => columns.map(({ column }) => column))
  return [...new Set([...keys.map(({ column }) => column), ...names])]
}

/** Where a part's rows are. */
export interface PartSource {
  readonly path: string
  /** For Parquet: the rows of the file that belong to the part. */
  readonly first: number
  readonly rows: number
  /** The file's columns; of text files all are VARCHAR. */
  readonly columns: readonly Column[]
  /** How lines of CSV end. */
  readonly newline?: '\n' | '\r\n'
}

/**
 * Reads the tensors' columns of a part straight from Parquet, without a table between and without looking at what is wrong: one
 * bad value and it fails. Undefined where only the careful way will do.
 */
export function directStatement(recipe: Recipe, source: PartSource): string | undefined {
  if (recipe.format !== 'parquet') return undefined
  const cells = recipe.inputs.flatMap((tensor) =>
    tensor.columns.map(({ column, missing }) => {
      const from = source.columns.find(({ name }) => name === column)?.type ?? ''
      const type = sqlTypeOf(tensor.datatype)
      const isSure =
        from === type || (floats.has(tensor.datatype) && (integers.test(from) || from === 'DOUBLE' || from === 'FLOAT'))
      if (tensor.isList || !isSure) return undefined
      const value = from === type ? quoted(column) : `${quoted(column)}::${type}`
      if (missing.kind === 'value') return `coalesce(${value}, ${standIn(missing.value)}::${type})`
      return `case when ${quoted(column)} is null then error('missing') else ${value} end`
    }),
  )
  if (cells.includes(undefined)) return undefined
  return `select ${cells.join(', ')} from ${parquetRows(source)}`
}

/** Makes the table `src` of a part. */
export function loadStatement(recipe: Recipe, source: PartSource): string {
  const { from, read, extra } = rowsOf(recipe, source)
  const typeOf = (column: string): string => {
    if (recipe.format !== 'parquet') return 'VARCHAR'
    return source.columns.find(({ name }) => name === column)?.type ?? 'VARCHAR'
  }
  const checks: string[] = [...extra]
  const keys = recipe.keys.map(({ column, type }, index) => {
    const value = read(column)
    if (type === '') return `${value} as k${index}`
    const cast = `try_cast(${value} as ${type})`
    checks.push(check(`${value} is not null and ${cast} is null`, `column ${column}: not a ${type}`))
    return `${cast} as k${index}`
  })
  const tensors = recipe.inputs.flatMap((tensor, place) =>
    tensor.columns.map((column, index) => {
      const { expression, problems } = cell(tensor, column, read(column.column), typeOf(column.column))
      checks.push(...problems)
      return `${expression} as t${place}_${index}`
    }),
  )
  const error = checks.length === 0 ? 'null::varchar' : `case ${checks.join(' ')} end`
  return `create or replace table src as select ${[...keys, ...tensors, `${error} as ${ERROR_COLUMN}`].join(', ')} from ${from}`
}

/** Where the key columns of a part are when its answers are there. */
export type Rows =
  /** In the source, as they are; every row has an answer. */
  | { readonly kind: 'source'; readonly source: PartSource }
  /** In `src`; rows that have an error were not asked about: the answers are those of the others, in order. */
  | { readonly kind: 'table'; readonly hasErrors: boolean }

/** Writes the results of a part, in the order of its rows. */
export function copyStatement(recipe: Recipe, target: string, rows: Rows): string {
  const isTable = rows.kind === 'table'
  const keys = recipe.keys.map(({ column }, index) => `${isTable ? `k${index}` : quoted(column)} as ${quoted(column)}`)
  const outputs = recipe.outputs.flatMap(({ columns }, place) =>
    columns.map(({ name, index }) => `o${place}[${index + 1}] as ${quoted(name)}`),
  )
  const problem = isTable ? `coalesce(${ERROR_COLUMN}, problem)` : 'problem'
  const error = recipe.writesErrors ? [`${problem} as ${ERROR_COLUMN}`] : []
  const selected = [...keys, ...outputs, ...error].join(', ')
  return `copy (select ${selected} from ${joined(recipe, rows)}) to ${literal(target)} (format parquet, compression zstd)`
}

function joined({ keys }: Recipe, rows: Rows): string {
  if (rows.kind === 'source') {
    const columns = keys.map(({ column }) => quoted(column))
    if (columns.length === 0) return 'answers'
    return `(select ${columns.join(', ')} from ${parquetRows(rows.source)}) positional join answers`
  }
  if (!rows.hasErrors) return 'src positional join answers'
  const asked = `(select rowid as place from src where ${ERROR_COLUMN} is null)`
  const answered = `(select * from ${asked} positional join answers)`
  return `(select *, rowid as place from src) left join ${answered} using (place) order by place`
}

/** Makes the table that takes the answers. */
export function answersStatement({ outputs, writesErrors }: Recipe): string {
  const columns = outputs.map(({ datatype, width }, place) => `o${place} ${sqlTypeOf(datatype)}[${width}]`)
  return `create or replace table answers (${[...columns, ...(writesErrors ? ['problem varchar'] : [])].join(', ')})`
}

/** Reads the tensors' columns of the rows that have no error. */
export function tensorsStatement({ inputs }: Recipe): string {
  const names = inputs.flatMap(({ columns }, place) => columns.map((_, index) => `t${place}_${index}`))
  return `select ${names.join(', ')} from src where ${ERROR_COLUMN} is null`
}

/** How the columns of a file are found out; CSV has a header. */
export function describeStatement(format: 'parquet' | 'jsonl', path: string): string {
  if (format === 'parquet') return `describe select * from read_parquet(${literal(path)})`
  const sampled = `format = 'newline_delimited', sample_size = 1000, ignore_errors = true`
  return `describe select * from read_json(${literal(path)}, ${sampled})`
}

const csvDialect = `delim = ',', quote = '"', escape = '"', nullstr = ''`

function rowsOf({ format, inputs, keys }: Recipe, source: PartSource) {
  const { path, columns, newline = '\n' } = source
  if (format === 'parquet') return { from: parquetRows(source), read: quoted, extra: [] }
  if (format === 'csv') {
    const types = columns.map(({ name }) => `${literal(name)}: 'VARCHAR'`).join(', ')
    const bad = `auto_detect = false, new_line = ${newline === '\n' ? `'\\n'` : `'\\r\\n'`}, null_padding = false, store_rejects = true, rejects_limit = 0`
    const from = `read_csv(${literal(path)}, header = false, columns = {${types}}, ${csvDialect}, ${bad})`
    return { from, read: quoted, extra: [] }
  }
  // Lines as they are: a line that is no JSON must not take the others with it.
  const names = columnsOf({ inputs, keys })
  const paths = names.map((name) => literal(`$."${name.replaceAll('"', '\\"')}"`)).join(', ')
  const lines = `read_csv(${literal(path)}, header = false, columns = {'line': 'VARCHAR'}, auto_detect = false, delim = '\u0001', quote = '', escape = '', nullstr = '')`
  const isObject = `case when json_valid(line) then json_type(line) = 'OBJECT' else false end`
  const values = `case when is_object then json_extract_string(line, [${paths}]) end`
  const from = `(select is_object, ${values} as v from (select line, ${isObject} as is_object from ${lines} where line is not null))`
  const read = (column: string): string => `v[${names.indexOf(column) + 1}]`
  return { from, read, extra: [check('not is_object', 'not a JSON object')] }
}

function parquetRows({ path, first, rows }: PartSource): string {
  const range = `file_row_number >= ${first} and file_row_number < ${first + rows}`
  return `read_parquet(${literal(path)}, file_row_number = true) where ${range}`
}

function standIn(value: number | null): string {
  return literal(value === null ? 'nan' : String(value))
}

function check(condition: string, message: string): string {
  return `when ${condition} then ${literal(message)}`
}

/** The value of one cell, and what can be wrong with it. */
function cell(tensor: InputTensor, { column, missing }: InputColumn, value: string, from: string) {
  const { datatype, isList } = tensor
  const element = sqlTypeOf(datatype)
  const type = isList ? `${element}[${widthOf(tensor)}]` : element
  const problems: string[] = []
  const cast = from === type ? value : castOf(value, type, from)
  if (from !== type) {
    const named = isList ? `a list of ${widthOf(tensor)} ${datatype}` : datatype
    problems.push(check(`${value} is not null and ${cast} is null`, `column ${column}: does not fit ${named}`))
  }
  if (integers.test(element) && !isList && !integers.test(from) && from !== 'BOOLEAN') {
    const number = `try_cast(${value} as double)`
    problems.push(check(`${number} <> trunc(${number})`, `column ${column}: not a whole number`))
  }
  if (missing.kind === 'refuse' || isList) {
    problems.push(check(`${value} is null`, `column ${column}: is missing`))
    return { expression: cast, problems }
  }
  return { expression: `coalesce(${cast}, ${standIn(missing.value)}::${type})`, problems }
}

function castOf(value: string, type: string, from: string): string {
  if (from !== 'VARCHAR' || type === 'VARCHAR' || type === 'BOOLEAN' || type.includes('['))
    return `try_cast(${value} as ${type})`
  return `case lower(${value}) when 'true' then 1::${type} when 'false' then 0::${type} else try_cast(${value} as ${type}) end`
}

/** Whether NaN can stand for a value that is missing. */
export function hasNaN(datatype: Datatype): boolean {
  return floats.has(datatype)
}
