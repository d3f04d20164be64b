/** What each kind of step must be like. Each function returns what the step gives, and says through `complain` what is wrong. */
import type { TensorSpec } from '@slipway/onnx'
import { isDatatype } from '@slipway/onnx'
import type { ExpressionOutput, ExpressionStep, ModelStep } from '@slipway/proto/slipway/inference/v1/pipeline'
import { ONE, type Size } from './cost.ts'
import { compileExpression, type Expression, freeNames } from './expression.ts'
import { ExpressionError } from './expression-error.ts'
import { parseTensorName, type TensorName } from './references.ts'
import type { Scope } from './type-check.ts'
import { elementType, join, plain, rowType, typeText, type ValueType } from './value-type.ts'

/** Inputs and outputs of a model. */
export interface Signature {
  readonly inputs: readonly TensorSpec[]
  readonly outputs: readonly TensorSpec[]
}

/** A tensor that an expression makes. */
export interface CompiledOutput {
  readonly spec: TensorSpec
  readonly expression: Expression
}

/** Rows that skip a model. */
export interface CompiledBranch {
  readonly where: Expression
  /** What the other rows are, by output; those without an expression are 0, false or empty. */
  readonly otherwise: ReadonlyMap<string, Expression>
}

/** What the tensors are that steps before give. */
export interface Known {
  readonly specs: ReadonlyMap<string, ReadonlyMap<string, TensorSpec>>
  /** Steps whose tensors are not known because of another problem: what reads from them is not a problem of its own. */
  readonly unknown: ReadonlySet<string>
  find(name: TensorName): TensorSpec | undefined
}

/** Notes a problem of a field of the step. */
export type Complain = (field: string, description: string) => void

/** A text that has no rows before its values are known costs as if it had so many characters. */
const ASSUMED_TEXT: Size = { size: 64 }

/** Checks the inputs and outputs of a model step; returns the outputs used. */
export function checkModelStep(step: ModelStep, signature: Signature, known: Known, complain: Complain): TensorSpec[] {
  for (const spec of signature.inputs) {
    const reference = step.inputs[spec.name]
    if (reference === undefined) {
      complain('inputs', `the model's input '${spec.name}' is given nothing`)
      continue
    }
    const name = parseTensorName(reference)
    const given = name && known.find(name)
    if (given === undefined) {
      if (!known.unknown.has(name?.step ?? '')) complain(`inputs.${spec.name}`, `there is no tensor '${reference}'`)
    } else if (!fits(spec, given)) {
      complain(`inputs.${spec.name}`, `takes ${specText(spec)}, but '${reference}' is ${specText(given)}`)
    }
  }
  for (const name of Object.keys(step.inputs)) {
    if (!signature.inputs.some((spec) => spec.name === name)) complain(`inputs.${name}`, 'the model has no such input')
  }
  if (step.outputs.length === 0) return [...signature.outputs]
  return step.outputs.flatMap((name, index) => {
    const spec = signature.outputs.find((output) => output.name === name)
    if (spec === undefined) complain(`outputs[${index}]`, `the model has no output '${name}'`)
    return spec === undefined ? [] : [spec]
  })
}

/** Checks and compiles the condition of a model step; undefined when it has none or it is wrong. */
export function checkBranch(
  step: ModelStep,
  signature: Signature,
  outputs: readonly TensorSpec[],
  known: Known,
  complain: Complain,
): CompiledBranch | undefined {
  if (step.where === '') {
    for (const name of Object.keys(step.otherwise))
      complain(`otherwise.${name}`, 'stands for rows that `where` leaves out')
    return undefined
  }
  if (![...signature.inputs, ...outputs].every(({ shape }) => shape[0] === -1)) {
    complain('where', 'the model does not take rows: a first dimension is not -1')
  }
  const open = outputs.find(({ shape }) => shape.slice(1).includes(-1))
  if (open !== undefined) complain('where', `output '${open.name}' has no fixed size: ${specText(open)}`)
  const where = compile(step.where, known, (text) => complain('where', text))
  if (where !== undefined && where.type.kind !== 'bool') complain('where', `gives ${typeText(where.type)}, not bool`)
  const otherwise = new Map<string, Expression>()
  for (const [name, text] of Object.entries(step.otherwise)) {
    const spec = outputs.find((output) => output.name === name)
    if (spec === undefined) {
      complain(`otherwise.${name}`, 'the step has no such output')
      continue
    }
    const expression = compile(text, known, (problem) => complain(`otherwise.${name}`, problem))
    if (expression === undefined) continue
    checkResult(expression.type, spec, (problem) => complain(`otherwise.${name}`, problem))
    otherwise.set(name, expression)
  }
  const noteWhere = (problem: string) => complain('where', problem)
  if (where !== undefined && (rowCount(where, known, noteWhere, true) ?? -1) !== -1)
    noteWhere('reads tensors without rows')
  for (const [name, expression] of otherwise) {
    const note = (problem: string) => complain(`otherwise.${name}`, problem)
    if ((rowCount(expression, known, note, false) ?? -1) !== -1) note('reads tensors without rows')
  }
  return where && { where, otherwise }
}

/**
 * Checks and compiles the outputs of an expression step. `give` is told of each of them as it is declared, also when its
 * expression is wrong, so that this is not a second problem of whoever reads it.
 */
export function checkExpressionStep(
  step: ExpressionStep,
  known: Known,
  complain: Complain,
  give: (specs: readonly TensorSpec[]) => void,
): CompiledOutput[] {
  const names = new Set<string>()
  const declared: TensorSpec[] = []
  const compiled = step.outputs.flatMap((output, index) => {
    const field = `outputs[${index}]`
    if (names.has(output.name)) complain(`${field}.name`, `'${output.name}' is there twice`)
    names.add(output.name)
    const spec = outputSpec(output, (part, text) => complain(`${field}.${part}`, text))
    if (spec !== undefined) declared.push(spec)
    const note = (text: string) => complain(`${field}.expression`, text)
    const expression = compile(output.expression, known, note)
    if (expression === undefined || spec === undefined) return []
    checkResult(expression.type, spec, note)
    const rows = rowCount(expression, known, note, expression.references.length > 0)
    if (expression.references.length === 0) note('reads no tensor, so it has no rows')
    else if (rows !== undefined && rows !== spec.shape[0]) {
      complain(`${field}.shape`, `begins with ${spec.shape[0]}, but what the expression reads has ${rows} rows`)
    }
    return [{ spec, expression }]
  })
  give(declared)
  return compiled
}

function outputSpec({ name, datatype, shape }: ExpressionOutput, complain: Complain): TensorSpec | undefined {
  if (!isDatatype(datatype) || elementType(datatype) === undefined) {
    complain('datatype', `'${datatype}' is not a datatype that expressions give`)
    return undefined
  }
  return { name, datatype, shape: shape.length === 0 ? [-1] : shape.map(Number) }
}

function compile(text: string, known: Known, note: (problem: string) => void): Expression | undefined {
  const scope: Scope = new Map(
    [...known.specs].map(([step, specs]) => [
      step,
      new Map([...specs.values()].map((spec) => [spec.name, rowType(spec) ?? plain.dyn])),
    ]),
  )
  if ([...freeNames(text)].some((name) => known.unknown.has(name))) return undefined
  try {
    const expression = compileExpression(text, scope)
    expression.cost(expression.references.map((reference) => assumedSize(known.find(reference))))
    return expression
  } catch (error) {
    if (!(error instanceof ExpressionError)) throw error
    note(error.message)
    return undefined
  }
}

/** The size of a tensor's value in a row, as far as it is fixed; what is open is looked at again with each request. */
function assumedSize(spec: TensorSpec | undefined): Size {
  const element = spec?.datatype === 'BYTES' ? ASSUMED_TEXT : ONE
  return (spec?.shape.slice(1) ?? []).reduceRight<Size>(
    (size, length) => ({ size: Math.max(length, 1), element: size }),
    element,
  )
}

/** Whether the values of an expression can fill the rows of a tensor. */
function checkResult(type: ValueType, spec: TensorSpec, note: (problem: string) => void): void {
  const element = elementType(spec.datatype) ?? plain.none
  const wanted = rowType(spec) ?? plain.none
  const isWhole = element.kind === 'int' || element.kind === 'uint'
  const isOne = spec.shape.slice(1).every((size) => size === 1)
  const takes = (target: ValueType): boolean =>
    isKnown(type) && type.kind !== 'tensors' && join(target, type) !== undefined
  const unsigned = spec.shape.slice(1).reduce<ValueType>((inner) => ({ kind: 'list', element: inner }), plain.uint)
  const signed = spec.shape.slice(1).reduce<ValueType>((inner) => ({ kind: 'list', element: inner }), plain.int)
  const accepted = isWhole ? [signed, unsigned] : [wanted]
  if (isOne) accepted.push(...(isWhole ? [plain.int, plain.uint] : [element]))
  if (accepted.some(takes)) return
  const hint = element.kind === 'double' && isWholeType(type) ? ': convert it, as in double(…)' : ''
  note(`gives ${typeText(type)}, but ${specText(spec)} takes ${typeText(wanted)} a row${hint}`)
}

function isKnown(type: ValueType): boolean {
  if (type.kind === 'list') return isKnown(type.element)
  return type.kind !== 'dyn'
}

function isWholeType(type: ValueType): boolean {
  return type.kind === 'list' ? isWholeType(type.element) : type.kind === 'int' || type.kind === 'uint'
}

/** The first dimension of everything that an expression reads; undefined when that differs. */
function rowCount(
  { references }: Expression,
  known: Known,
  note: (problem: string) => void,
  isNeeded: boolean,
): number | undefined {
  const counts = new Set(references.flatMap((reference) => known.find(reference)?.shape.slice(0, 1) ?? []))
  if (counts.size > 1) note(`reads tensors with different rows: ${[...counts].join(', ')}`)
  else if (counts.size === 0 && isNeeded) note('reads only tensors without rows')
  return counts.size === 1 ? [...counts][0] : undefined
}

function fits(spec: TensorSpec, given: TensorSpec): boolean {
  if (spec.datatype !== given.datatype || spec.shape.length !== given.shape.length) return false
  return spec.shape.every((size, axis) => size === -1 || given.shape[axis] === -1 || given.shape[axis] === size)
}

/** A tensor as a person reads it. */
export function specText({ datatype, shape }: TensorSpec): string {
  return `${datatype}[${shape.join(', ')}]`
}
