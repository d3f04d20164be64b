/** A CEL expression, from its text to its value in a row. */
import { type CelInput, isCelError, parse, plan } from '@bufbuild/cel'
import type { Expr } from '@bufbuild/cel-spec/cel/expr/syntax_pb.js'
import { type Bound, boundOf, ONE, readingCost, type Size } from './cost.ts'
import { ExpressionError } from './expression-error.ts'
import { compileFast, type FastVariable } from './fast-path.ts'
import { environment } from './functions.ts'
import { foldConstants, gatherInPlace, parts } from './rewrite.ts'
import { checkTypes, type Reference, type Scope } from './type-check.ts'
import { plain, type ValueType } from './value-type.ts'

/** Longest text of an expression. */
export const MAX_EXPRESSION_CHARACTERS = 16_384
/** Deepest nesting of brackets of all kinds, which the parser follows by calling itself. */
export const MAX_EXPRESSION_DEPTH = 64
/** Deepest nesting of operators and calls, which everything after the parser follows by calling itself. */
export const MAX_EXPRESSION_LEVELS = 256
/** What evaluating expressions for one row may cost, in units of `cost.ts`: a few milliseconds at the most. */
export const MAX_ROW_COST = 20_000
/** Largest text, list or map that an expression may make, in characters or elements. */
export const MAX_VALUE_SIZE = 65_536

/** An expression that was checked. */
export interface Expression {
  readonly type: ValueType
  /** The tensors that it reads, in the order in which `evaluate` takes their values. */
  readonly references: readonly Reference[]
  /** What a row costs at most, given how large the values of the references are. Throws an ExpressionError beyond the limits. */
  cost(sizes: readonly Size[]): number
  /** Its value, given those of the references. Throws an ExpressionError, whose text holds no value of the row. */
  evaluate(values: readonly CelInput[]): CelInput
  /** The same by the CEL library alone. */
  evaluateExactly(values: readonly CelInput[]): CelInput
}

/** Parses and checks an expression. Throws an ExpressionError that says what is wrong with it. */
export function compileExpression(text: string, scope: Scope): Expression {
  const expression = parseText(text)
  const { type, references } = checkTypes(expression, scope)
  gatherInPlace(expression)
  const sizes = new Map<string, Size>()
  const bindings: Record<string, CelInput> = {}
  const fastVariables: FastVariable[] = references.map(({ step, output, variable }) => {
    return { name: variable, type: scope.get(step)?.get(output) ?? plain.dyn }
  })
  for (const [variable, literal] of foldConstants(expression)) {
    fastVariables.push({ name: variable, type: plain.dyn, literal })
    const value = plan(environment, literal)({})
    if (isCelError(value)) throw new ExpressionError(value.message)
    bindings[variable] = value
    sizes.set(variable, boundOf(literal, new Map()))
  }
  const run = plan(environment, expression)
  const fast = compileFast(expression, fastVariables)
  const variables = references.map(({ variable }) => variable)
  const evaluateExactly = (values: readonly CelInput[]): CelInput => {
    for (let index = 0; index < variables.length; index++) {
      bindings[variables[index] as string] = values[index] as CelInput
    }
    const value = run(bindings)
    if (isCelError(value)) throw new ExpressionError(reasonOf(value.message))
    return value
  }
  return {
    type,
    references,
    cost: (given) => {
      let reading = 0
      for (const [index, variable] of variables.entries()) {
        const size = given[index] ?? ONE
        reading += readingCost(size)
        sizes.set(variable, size)
      }
      const bound = boundOf(expression, sizes)
      return checkBound({ ...bound, cost: bound.cost + reading })
    },
    evaluate: (values) => {
      if (fast !== undefined) {
        try {
          return fast(values)
        } catch {
          // What went wrong, and whether anything did, is for the library to say.
        }
      }
      return evaluateExactly(values)
    },
    evaluateExactly,
  }
}

/** The names that an expression uses and does not bind itself; none when it cannot be parsed. */
export function freeNames(text: string): ReadonlySet<string> {
  const names = new Set<string>()
  try {
    gatherNames(parseText(text), new Set(), names)
  } catch (error) {
    if (!(error instanceof ExpressionError)) throw error
  }
  return names
}

function gatherNames(expression: Expr, bound: ReadonlySet<string>, names: Set<string>): void {
  const { exprKind: kind } = expression
  if (kind.case === 'identExpr' && !bound.has(kind.value.name)) names.add(kind.value.name)
  const isLoop = kind.case === 'comprehensionExpr'
  const within = isLoop ? new Set([...bound, kind.value.iterVar, kind.value.accuVar]) : bound
  for (const part of parts(expression)) {
    gatherNames(part, isLoop && part === kind.value.iterRange ? bound : within, names)
  }
}

function parseText(text: string): Expr {
  if (text.length > MAX_EXPRESSION_CHARACTERS) {
    throw new ExpressionError(`it has ${text.length} characters, at most ${MAX_EXPRESSION_CHARACTERS} are allowed`)
  }
  if (nesting(text) > MAX_EXPRESSION_DEPTH) {
    throw new ExpressionError(`its brackets are nested more than ${MAX_EXPRESSION_DEPTH} deep`)
  }
  const expression = parsed(text)
  if (levels(expression) > MAX_EXPRESSION_LEVELS) {
    throw new ExpressionError(`its operators are nested more than ${MAX_EXPRESSION_LEVELS} deep`)
  }
  return expression
}

function parsed(text: string): Expr {
  try {
    return parse(text).expr
  } catch (cause) {
    throw new ExpressionError(`it cannot be parsed: ${(cause as Error).message}`, { cause })
  }
}

/** How deep the parts of an expression are nested; found without calling itself. */
function levels(expression: Expr): number {
  let count = 0
  for (let level: readonly Expr[] = [expression]; level.length > 0; level = level.flatMap(parts)) count++
  return count
}

function nesting(text: string): number {
  let depth = 0
  let deepest = 0
  for (const character of text) {
    if ('([{'.includes(character)) deepest = Math.max(deepest, ++depth)
    else if (')]}'.includes(character)) depth--
  }
  return deepest
}

function checkBound({ cost, size }: Bound): number {
  if (cost > MAX_ROW_COST) {
    throw new ExpressionError(`a row may cost ${Math.ceil(cost)} steps, at most ${MAX_ROW_COST} are allowed`)
  }
  if (size > MAX_VALUE_SIZE) {
    throw new ExpressionError(`its value may have a size of ${Math.ceil(size)}, at most ${MAX_VALUE_SIZE} is allowed`)
  }
  return cost
}

const REASONS: readonly (readonly [RegExp, string])[] = [
  [/divide by zero|modulus by zero/, 'division by zero'],
  [/overflow|out of range/, 'a number that does not fit'],
  [/out of bounds|invalid index/, 'an index beyond the end'],
  [/field not found|no such key/, 'a key that is not in the map'],
  [/no matching overload/, 'values of types that do not go together'],
  [/empty list/, 'an empty list'],
  [/convert|parse|syntax/i, 'a text that cannot be converted'],
]

/** What went wrong, without the value with which it did: values of a row stay out of errors and logs. */
function reasonOf(message: string): string {
  const [, reason] = REASONS.find(([pattern]) => pattern.test(message)) ?? []
  return reason ?? 'it has no value'
}
