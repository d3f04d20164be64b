/** What `slipway explain` explains: rows of feature values on the command line, or tensors in a file. */
import type { MessageInitShape } from '@bufbuild/protobuf'
import type { ExampleTensor } from '@slipway/models'
import type { ExplainRequestSchema } from '@slipway/proto/slipway/inference/v1/explain_service'
import { UsageError } from '../command.ts'
import { fromValue } from '../feature-value.ts'
import type { Invocation } from '../invocation.ts'
import { numberText } from '../terminal.ts'
import { readInputs } from './tensor-file.ts'
import { readValues } from './value-words.ts'

/** What is explained, and what each row's features are shown as. */
export interface RowsToExplain {
  readonly rows: NonNullable<MessageInitShape<typeof ExplainRequestSchema>['rows']>
  readonly shown: readonly ReadonlyMap<string, string>[]
}

/** Reads the rows that a command line names. UsageError when it does not, or in two ways. */
export async function rowsFrom(words: Invocation['words']): Promise<RowsToExplain> {
  const [rows, features] = [words.many('row'), words.many('feature')]
  const path = words.optional('tensors')
  if (path === undefined) return featureRows(readRows(rows, features))
  if (rows.length + features.length > 0) throw new UsageError('--tensors are all rows: --row and --feature say others')
  const { tensors, request } = await readInputs(path)
  return { rows: { case: 'tensors', value: request }, shown: cellsOf(tensors) }
}

function featureRows(rows: ReturnType<typeof readRows>): RowsToExplain {
  return {
    rows: { case: 'features', value: { rows: rows.map((values) => ({ values })) } },
    shown: rows.map((values) => new Map(Object.entries(values).map(([name, value]) => [name, valueText(value)]))),
  }
}

/** The values of each row by the names that features without a binding have. */
function cellsOf(tensors: readonly ExampleTensor[]): Map<string, string>[] {
  const rows: Map<string, string>[] = []
  for (const { name, shape, data } of tensors) {
    const [count = 0, columns] = shape
    if (shape.length > 2) continue
    const values = [...data]
    for (let row = 0; row < count; row++) {
      rows[row] ??= new Map()
      for (let column = 0; column < (columns ?? 1); column++) {
        const value = values[row * (columns ?? 1) + column]
        rows[row]?.set(columns === undefined ? name : `${name}[${column}]`, plainText(value))
      }
    }
  }
  return rows
}

function readRows(rows: readonly string[], features: readonly string[]) {
  if (features.length > 0 && rows.length > 1)
    throw new UsageError('--feature belongs to one row, and there are several --row')
  const words = rows.map((row) => row.split(',').filter((word) => word !== ''))
  if (features.length > 0) words.splice(0, words.length, [...words.flat(), ...features])
  if (words.length === 0)
    throw new UsageError('"slipway explain" needs --row NAME=VALUE,…, --feature NAME=VALUE or --tensors FILE')
  return words.map((row) => readValues(features.length > 0 ? 'feature' : 'row', row))
}

function valueText(value: ReturnType<typeof readValues>[string]): string {
  return plainText(fromValue({ kind: value.kind ?? { case: undefined } } as never))
}

function plainText(plain: unknown): string {
  return typeof plain === 'number' ? numberText(plain) : String(plain ?? 'missing')
}
