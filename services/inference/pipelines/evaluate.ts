/** Evaluates the expressions of a step over the rows of a request, piece by piece. */
import {
  type Expression,
  ExpressionError,
  type Rows,
  rowsOf,
  type Tensor,
  type TensorName,
  tensorText,
} from '@slipway/pipelines'
import { expressionFailed, rowsDiffer } from './failures.ts'

type CelInput = Parameters<Expression['evaluate']>[0][number]

/** An expression, what it is called in an error, and who takes its values in the order of the rows. */
export interface Column {
  readonly label: string
  readonly expression: Expression
  readonly take: (value: CelInput) => void
}

/** The tensors of a request, as far as they are there; reads each as rows once. */
export class RequestTensors {
  readonly #tensors = new Map<string, Tensor>()
  readonly #rows = new Map<string, Rows>()

  set(name: TensorName, tensor: Tensor): void {
    this.#tensors.set(tensorText(name), tensor)
  }

  /** A tensor that is there: steps run after those that they read from. */
  get(name: TensorName): Tensor {
    const tensor = this.#tensors.get(tensorText(name))
    if (tensor === undefined) throw new RangeError(`${tensorText(name)} is not there yet`)
    return tensor
  }

  rows(name: TensorName): Rows {
    const text = tensorText(name)
    const known = this.#rows.get(text)
    if (known !== undefined) return known
    const rows = rowsOf(this.get(name))
    this.#rows.set(text, rows)
    return rows
  }

  /** The rows of tensors, which must agree. */
  count(names: readonly TensorName[]): number {
    let found: number | undefined
    let by: TensorName | undefined
    for (const name of names) {
      const { count } = this.rows(name)
      if (count === undefined) continue
      if (by !== undefined && found !== count) throw rowsDiffer(tensorText(by), found ?? 0, tensorText(name), count)
      found = count
      by = name
    }
    return found ?? 0
  }
}

/** Cost after which it is time to look at the clock, in the units of a row's cost. */
const PIECE_COST = 2000

/** Evaluates the columns over these rows. Throws INVALID_ARGUMENT that names step, column and row. */
export function* evaluateRows(
  step: string,
  columns: readonly Column[],
  tensors: RequestTensors,
  positions: Iterable<number>,
): Generator<void, void> {
  const readers: Rows[] = []
  let rowCost = 0
  const bound = columns.map(({ label, expression, take }) => {
    const rows = expression.references.map((name) => tensors.rows(name))
    rowCost += attempt(step, label, undefined, () => expression.cost(rows.map(({ size }) => size)))
    // What several columns read is read once.
    const places = rows.map((each) => {
      const known = readers.indexOf(each)
      return known >= 0 ? known : readers.push(each) - 1
    })
    return { label, expression, take, places, values: [] as CelInput[] }
  })
  const rowsOfPiece = Math.max(1, Math.floor(PIECE_COST / Math.max(rowCost, 1)))
  let done = 0
  for (const row of positions) {
    const read = readers.map((reader) => reader.read(row))
    for (const { label, expression, take, places, values } of bound) {
      for (let index = 0; index < places.length; index++) values[index] = read[places[index] as number] as CelInput
      try {
        take(expression.evaluate(values))
      } catch (error) {
        throw told(error, step, label, row)
      }
    }
    if (++done % rowsOfPiece === 0) yield
  }
}

function attempt<T>(step: string, label: string, row: number | undefined, action: () => T): T {
  try {
    return action()
  } catch (error) {
    throw told(error, step, label, row)
  }
}

function told(error: unknown, step: string, label: string, row: number | undefined): unknown {
  return error instanceof ExpressionError ? expressionFailed(step, label, row, error.message) : error
}
