/** Makes an expression that was checked cheaper to evaluate, without another result. */
import type { Expr } from '@bufbuild/cel-spec/cel/expr/syntax_pb.js'
import { APPEND } from './functions.ts'

/** The parts of an expression, in the order in which they are evaluated. */
export function parts({ exprKind: kind }: Expr): readonly Expr[] {
  switch (kind.case) {
    case 'selectExpr':
      return kind.value.operand ? [kind.value.operand] : []
    case 'callExpr':
      return kind.value.target ? [kind.value.target, ...kind.value.args] : kind.value.args
    case 'listExpr':
      return kind.value.elements
    case 'structExpr':
      return kind.value.entries.flatMap(({ keyKind, value }) => [
        ...(keyKind.case === 'mapKey' ? [keyKind.value] : []),
        ...(value ? [value] : []),
      ])
    case 'comprehensionExpr': {
      const { iterRange, accuInit, loopCondition, loopStep, result } = kind.value
      return [iterRange, accuInit, loopCondition, loopStep, result].filter((part) => part !== undefined)
    }
    default:
      return []
  }
}

/**
 * Has comprehensions that gather a list do it in one list that grows, where CEL makes a new list of two for each element, which
 * costs the square of their number.
 */
export function gatherInPlace(expression: Expr): void {
  for (const part of parts(expression)) gatherInPlace(part)
  if (expression.exprKind.case !== 'comprehensionExpr') return
  const { accuVar, accuInit, loopStep } = expression.exprKind.value
  if (accuInit?.exprKind.case !== 'listExpr' || accuInit.exprKind.value.elements.length > 0) return
  const isAccumulator = (part: Expr | undefined) =>
    part?.exprKind.case === 'identExpr' && part.exprKind.value.name === accuVar
  const gathers = [loopStep, ...(loopStep?.exprKind.case === 'callExpr' ? loopStep.exprKind.value.args : [])]
  for (const step of gathers) {
    if (step?.exprKind.case !== 'callExpr' || step.exprKind.value.function !== '_+_') continue
    const [list, added] = step.exprKind.value.args
    if (!isAccumulator(list) || list === undefined) continue
    if (added?.exprKind.case !== 'listExpr' || added.exprKind.value.elements.length !== 1) continue
    step.exprKind.value.function = APPEND
    step.exprKind.value.args = [list, ...added.exprKind.value.elements]
  }
}

/** Replaces the lists and maps that read nothing by variables, and returns them by the variables' names. */
export function foldConstants(expression: Expr): ReadonlyMap<string, Expr> {
  const folded = new Map<string, Expr>()
  fold(expression, folded)
  return folded
}

function fold(expression: Expr, folded: Map<string, Expr>): void {
  for (const part of parts(expression)) {
    const { exprKind } = part
    const isLarge = exprKind.case === 'listExpr' ? exprKind.value.elements.length > 0 : exprKind.case === 'structExpr'
    if (!isLarge || !isClosed(part)) {
      fold(part, folded)
      continue
    }
    const variable = `@c${folded.size}`
    folded.set(variable, { ...part })
    part.exprKind = { case: 'identExpr', value: { $typeName: 'cel.expr.Expr.Ident', name: variable } }
  }
}

function isClosed(expression: Expr): boolean {
  const { exprKind: kind } = expression
  const isLiteral = kind.case === 'constExpr' || kind.case === 'listExpr' || kind.case === 'structExpr'
  return (isLiteral || (kind.case === 'callExpr' && kind.value.function === '-_')) && parts(expression).every(isClosed)
}
