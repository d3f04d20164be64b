/** Finds the type of an expression, and what it reads, before it is ever evaluated. */
import type { CelFunc } from '@bufbuild/cel'
import type {
  Constant,
  Expr,
  Expr_Call,
  Expr_Comprehension,
  Expr_Select,
} from '@bufbuild/cel-spec/cel/expr/syntax_pb.js'
import { ExpressionError } from './expression-error.ts'
import { environment, SUM_OF_INTS } from './functions.ts'
import { indexed, NUMERIC, operatorText, resultOf, special } from './operators.ts'
import { accepts, fromCelType, join, plain, typeText, type ValueType } from './value-type.ts'

/** A tensor that an expression reads. */
export interface Reference {
  /** The step that gives it, or `input`. */
  readonly step: string
  readonly output: string
  /** The variable that stands for it in the expression after the check. */
  readonly variable: string
}

/** What names stand for: of each step, and of `input`, the types of its tensors in one row. */
export type Scope = ReadonlyMap<string, ReadonlyMap<string, ValueType>>

/** What was found. */
export interface Checked {
  readonly type: ValueType
  readonly references: readonly Reference[]
}

/** Checks an expression and puts a variable of its own in the place of each tensor. Throws an ExpressionError. */
export function checkTypes(expression: Expr, scope: Scope): Checked {
  const checker = new TypeChecker(scope)
  return { type: checker.typeOf(expression, new Map()), references: checker.references }
}

type Locals = ReadonlyMap<string, ValueType>

class TypeChecker {
  readonly references: Reference[] = []
  readonly #scope: Scope

  constructor(scope: Scope) {
    this.#scope = scope
  }

  typeOf(expression: Expr | undefined, locals: Locals): ValueType {
    const kind = expression?.exprKind
    switch (kind?.case) {
      case 'constExpr':
        return constantType(kind.value)
      case 'identExpr':
        return this.#identifier(kind.value.name, locals)
      case 'selectExpr':
        return this.#select(expression as Expr, kind.value, locals)
      case 'callExpr':
        return this.#call(expression as Expr, kind.value, locals)
      case 'listExpr':
        return { kind: 'list', element: this.#joined(kind.value.elements, locals) }
      case 'structExpr': {
        if (kind.value.messageName !== '') throw new ExpressionError(`there is no message '${kind.value.messageName}'`)
        const keys = kind.value.entries.map(({ keyKind }) => (keyKind.case === 'mapKey' ? keyKind.value : undefined))
        const values = kind.value.entries.map((entry) => entry.value)
        const key = this.#joined(keys, locals)
        return { kind: 'map', key, value: this.#joined(values, locals) }
      }
      case 'comprehensionExpr':
        return this.#comprehension(kind.value, locals)
      default:
        throw new ExpressionError('it is not an expression')
    }
  }

  #identifier(name: string, locals: Locals): ValueType {
    const local = locals.get(name)
    if (local !== undefined) return local
    const fields = this.#scope.get(name)
    if (fields !== undefined) return { kind: 'tensors', step: name, fields }
    throw new ExpressionError(`there is no '${name}', only ${[...this.#scope.keys()].join(', ')}`)
  }

  #select(expression: Expr, select: Expr_Select, locals: Locals): ValueType {
    const operand = this.typeOf(select.operand, locals)
    if (operand.kind === 'tensors') {
      if (select.testOnly) throw new ExpressionError('has() asks about keys of maps, not about tensors')
      return this.#tensor(expression, operand, select.field)
    }
    if (operand.kind === 'dyn') return select.testOnly ? plain.bool : plain.dyn
    if (operand.kind !== 'map' || !accepts(operand.key, plain.string)) {
      throw new ExpressionError(`${typeText(operand)} has no fields, so no '${select.field}'`)
    }
    return select.testOnly ? plain.bool : operand.value
  }

  /** Replaces the expression by a variable that stands for a tensor. */
  #tensor(expression: Expr, { step, fields }: Extract<ValueType, { kind: 'tensors' }>, output: string): ValueType {
    const type = fields.get(output)
    if (type === undefined) {
      throw new ExpressionError(`there is no '${step}.${output}', only ${[...fields.keys()].join(', ') || 'nothing'}`)
    }
    let reference = this.references.find((known) => known.step === step && known.output === output)
    if (reference === undefined) {
      // No identifier begins like this, so no variable of a comprehension hides it.
      reference = { step, output, variable: `@${this.references.length}` }
      this.references.push(reference)
    }
    expression.exprKind = {
      case: 'identExpr',
      value: { $typeName: 'cel.expr.Expr.Ident', name: reference.variable },
    }
    return type
  }

  #joined(parts: readonly (Expr | undefined)[], locals: Locals): ValueType {
    let type: ValueType = plain.none
    for (const part of parts) {
      const both = join(type, this.#value(part, locals))
      // CEL takes such lists too, and has to for the arguments of `format`.
      type = both ?? plain.dyn
    }
    return type
  }

  #value(expression: Expr | undefined, locals: Locals): ValueType {
    const type = this.typeOf(expression, locals)
    if (type.kind !== 'tensors') return type
    throw new ExpressionError(`'${type.step}' is a step, not a tensor: name one of its tensors, ${type.step}.…`)
  }

  #call(expression: Expr, call: Expr_Call, locals: Locals): ValueType {
    const { args } = call
    if (call.function === '_[_]') {
      const [operand, index] = args
      const type = this.typeOf(operand, locals)
      const key = index?.exprKind.case === 'constExpr' ? index.exprKind.value.constantKind : undefined
      if (type.kind !== 'tensors') return indexed(type, this.#value(index, locals))
      if (key?.case !== 'stringValue') throw new ExpressionError(`${type.step}[…] takes the name of a tensor as a text`)
      return this.#tensor(expression, type, key.value)
    }
    const qualified = qualifiedName(call, locals)
    const name = qualified ?? call.function
    const functions = [...(environment.funcs.find(name) ?? [])]
    const target = qualified === undefined && call.target ? this.#value(call.target, locals) : undefined
    const types = args.map((arg) => this.#value(arg, locals))
    if (name === 'sum' && target?.kind === 'list' && target.element.kind === 'int') call.function = SUM_OF_INTS
    return special(name, types) ?? this.#overload(name, functions, target, types)
  }

  #overload(name: string, functions: readonly CelFunc[], target: ValueType | undefined, types: readonly ValueType[]) {
    const shown = `${target === undefined ? '' : `${typeText(target)}.`}${operatorText(name)}`
    if (functions.length === 0) throw new ExpressionError(`there is no function '${shown}'`)
    const fitting = functions.filter(
      (candidate) =>
        (candidate.target === undefined) === (target === undefined) &&
        (candidate.target === undefined || accepts(fromCelType(candidate.target), target ?? plain.none)) &&
        candidate.arguments.length === types.length &&
        candidate.arguments.every((parameter, index) => accepts(fromCelType(parameter), types[index] ?? plain.none)),
    )
    if (fitting.length === 0) {
      const given = types.map(typeText).join(', ')
      const mixes = types.length === 2 && types.every(({ kind }) => NUMERIC.has(kind))
      const hint = mixes ? ': convert one of them, as in double(…)' : ''
      throw new ExpressionError(`'${shown}' does not take (${given})${hint}`)
    }
    return resultOf(name, fitting, target, types)
  }

  #comprehension(loop: Expr_Comprehension, locals: Locals): ValueType {
    const range = this.#value(loop.iterRange, locals)
    const item =
      range.kind === 'list'
        ? range.element
        : range.kind === 'map'
          ? range.key
          : range.kind === 'dyn'
            ? plain.dyn
            : undefined
    if (item === undefined) throw new ExpressionError(`${typeText(range)} is neither a list nor a map`)
    let gathered = this.#value(loop.accuInit, locals)
    const within = (accumulator: ValueType): Locals =>
      new Map([...locals, [loop.accuVar, accumulator], [loop.iterVar, item]])
    const next = join(gathered, this.#value(loop.loopStep, within(gathered)))
    if (next === undefined) throw new ExpressionError('its condition is not a bool')
    gathered = next
    this.#value(loop.loopCondition, within(gathered))
    return this.#value(loop.result, new Map([...locals, [loop.accuVar, gathered]]))
  }
}

function constantType({ constantKind }: Constant): ValueType {
  switch (constantKind.case) {
    case 'boolValue':
      return plain.bool
    case 'int64Value':
      return plain.int
    case 'uint64Value':
      return plain.uint
    case 'doubleValue':
      return plain.double
    case 'stringValue':
      return plain.string
    case 'bytesValue':
      return { kind: 'bytes' }
    default:
      return { kind: 'null' }
  }
}

/** `math.greatest` of a call on something that is not a value; undefined for methods and plain functions. */
function qualifiedName({ target, function: name }: Expr_Call, locals: Locals): string | undefined {
  if (target?.exprKind.case !== 'identExpr' || locals.has(target.exprKind.value.name)) return undefined
  const qualified = `${target.exprKind.value.name}.${name}`
  return environment.funcs.find(qualified) === undefined ? undefined : qualified
}
