/**
 * What evaluating an expression costs at most, known before it is evaluated: from the sizes of what it reads follow the sizes
 * of everything it makes, and from those how often each part runs. CEL has no loops but over lists that are there, so there
 * always is such a bound; comprehensions inside each other can make it large.
 *
 * One unit is about one node of the expression evaluated once, some 0.1 microseconds.
 */
import type { Expr, Expr_Call, Expr_Comprehension } from '@bufbuild/cel-spec/cel/expr/syntax_pb.js'
import { APPEND, SUM_OF_INTS } from './functions.ts'
import { parts } from './rewrite.ts'

/** How large a value can be: characters of a text, elements of a list or map, 1 for anything else. */
export interface Size {
  readonly size: number
  /** The largest element. */
  readonly element?: Size
}

/** The size of what has no parts. */
export const ONE: Size = { size: 1 }

/** Elements or characters of a tensor whose reading costs as much as one node. */
const READ_PER_UNIT = 4

/** What reading the value of a tensor in one row costs. */
export function readingCost(size: Size): number {
  return 1 + deepSize(size) / READ_PER_UNIT
}

/** What an expression costs and makes at most. */
export interface Bound extends Size {
  readonly cost: number
}

/** Characters that cost as much as one node. */
const CHARACTERS_PER_UNIT = 32
/** Longest text of a number, a bool or a time. */
const PLAIN_CHARACTERS = 64
/** Longest text that `format` makes of one number. */
const FORMATTED_CHARACTERS = 400

/** The bound of an expression, given the sizes of its variables. */
export function boundOf(expression: Expr | undefined, variables: ReadonlyMap<string, Size>): Bound {
  const kind = expression?.exprKind
  switch (kind?.case) {
    case 'constExpr':
      return { cost: 1, ...constantSize(kind.value.constantKind.value) }
    case 'identExpr':
      return { cost: 1, ...(variables.get(kind.value.name) ?? ONE) }
    case 'selectExpr': {
      const operand = boundOf(kind.value.operand, variables)
      return { cost: operand.cost + 1, ...(operand.element ?? ONE) }
    }
    case 'listExpr':
    case 'structExpr': {
      const elements = parts(expression as Expr).map((part) => boundOf(part, variables))
      return { cost: 1 + total(elements), size: elements.length, element: largest(elements) }
    }
    case 'callExpr':
      return callBound(kind.value, variables)
    case 'comprehensionExpr':
      return loopBound(kind.value, variables)
    default:
      return { cost: 1, ...ONE }
  }
}

function constantSize(value: unknown): Size {
  return { size: typeof value === 'string' || value instanceof Uint8Array ? value.length : 1 }
}

function callBound({ function: name, target, args }: Expr_Call, variables: ReadonlyMap<string, Size>): Bound {
  const bounds = [...(target ? [target] : []), ...args].map((part) => boundOf(part, variables))
  const cost = 1 + total(bounds)
  const [first = ONE, second = ONE, third = ONE] = bounds
  const texts = bounds.reduce((sum, { size }) => sum + size, 0)
  const made = (result: Size, extra = 0): Bound => ({ cost: cost + extra, ...result })
  const read = (characters: number) => characters / CHARACTERS_PER_UNIT
  switch (name) {
    case '_?_:_':
      return made(largest([second, third]))
    case '_[_]':
      return made(first.element ?? ONE)
    case '_+_':
      if (first.element === undefined && second.element === undefined) return made({ size: texts }, read(texts))
      return made({ size: texts, element: largest([first.element ?? ONE, second.element ?? ONE]) }, texts)
    case APPEND:
      return made({ size: first.size + 1, element: largest([first.element ?? ONE, second]) })
    case '@in':
      // A map is looked up, a list gone through; which of them it is does not matter for a bound.
      return made(ONE, second.size * (1 + read(deepSize(second.element ?? ONE))))
    case '_==_':
    case '_!=_':
    case '_<_':
    case '_<=_':
    case '_>_':
    case '_>=_':
      return made(ONE, read(Math.min(deepSize(first), deepSize(second))))
    case 'matches':
      return made(ONE, 20 + second.size + (first.size * (1 + second.size)) / 4)
    case 'split':
      return made({ size: first.size + 1, element: { size: first.size } }, first.size)
    case 'join':
      return made(
        { size: first.size * ((first.element ?? ONE).size + second.size) },
        first.size * 2 + read(deepSize(first)),
      )
    case 'replace':
      return made({ size: (first.size + 1) * (third.size + 1) }, read((first.size + 1) * (third.size + 1)) + first.size)
    case 'format':
      return made(
        { size: first.size + deepSize(second) * 4 + FORMATTED_CHARACTERS * second.size },
        first.size * 4 + second.size * 8,
      )
    case 'max':
    case 'min':
      return made(first.element ?? ONE, first.size)
    case 'sum':
    case SUM_OF_INTS:
      return made(ONE, first.size)
    case 'indexOf':
    case 'lastIndexOf':
      return made(ONE, first.size * (first.element === undefined ? read(second.size) + 0.1 : 1))
    case 'dyn':
      return made(first)
    default:
      // The remaining functions go through their texts once and make none that is longer than all of them.
      return made({ size: Math.max(PLAIN_CHARACTERS, 2 * texts) }, read(texts))
  }
}

/** A loop runs its step for each element; what a step adds to the result, each of them may add. */
function loopBound(loop: Expr_Comprehension, variables: ReadonlyMap<string, Size>): Bound {
  const range = boundOf(loop.iterRange, variables)
  const begin = boundOf(loop.accuInit, variables)
  const within = (accumulator: Size) =>
    new Map([...variables, [loop.accuVar, accumulator], [loop.iterVar, range.element ?? { size: range.size }]])
  const step = boundOf(loop.loopStep, within(begin))
  const condition = boundOf(loop.loopCondition, within(begin))
  const growth = Math.max(0, step.size - begin.size)
  const end: Size = {
    size: begin.size + growth * range.size,
    ...(step.element === undefined ? {} : { element: step.element }),
  }
  const result = boundOf(loop.result, new Map([...variables, [loop.accuVar, end]]))
  const cost = range.cost + begin.cost + range.size * (1 + step.cost + condition.cost) + result.cost
  return { ...result, cost }
}

function total(bounds: readonly Bound[]): number {
  return bounds.reduce((sum, { cost }) => sum + cost, 0)
}

function largest(sizes: readonly Size[]): Size {
  const elements = sizes.flatMap(({ element }) => (element === undefined ? [] : [element]))
  const size = sizes.reduce((most, each) => Math.max(most, each.size), 0)
  return elements.length === 0 ? { size } : { size, element: largest(elements) }
}

/** Characters and elements of a value and of everything in it. */
export function deepSize({ size, element }: Size): number {
  return size * (element === undefined ? 1 : 1 + deepSize(element))
}
