/** What operators and functions give that the library's own table does not tell exactly. */
import type { CelFunc } from '@bufbuild/cel'
import { ExpressionError } from './expression-error.ts'
import { ELEMENT_FUNCTIONS } from './functions.ts'
import { accepts, fromCelType, join, plain, typeText, type ValueType } from './value-type.ts'

/** Types of numbers, which can be compared with each other. */
export const NUMERIC: ReadonlySet<string> = new Set(['int', 'uint', 'double'])

/** The type of `type[index]`. */
export function indexed(type: ValueType, index: ValueType): ValueType {
  if (type.kind === 'dyn') return plain.dyn
  if (type.kind === 'list') {
    if (accepts(plain.int, index) || accepts(plain.uint, index)) return type.element
    throw new ExpressionError(`a list is indexed by an int, not by ${typeText(index)}`)
  }
  if (type.kind !== 'map') throw new ExpressionError(`${typeText(type)} cannot be indexed`)
  if (accepts(type.key, index)) return type.value
  throw new ExpressionError(`${typeText(type)} has no keys of type ${typeText(index)}`)
}

/** The type that an operator gives; undefined for what has an entry in the table. */
export function special(name: string, types: readonly ValueType[]): ValueType | undefined {
  const [first = plain.none, second = plain.none, third = plain.none] = types
  switch (name) {
    case '_?_:_': {
      const both = join(second, third)
      if (!accepts(plain.bool, first)) throw new ExpressionError(`a condition is a bool, not ${typeText(first)}`)
      if (both !== undefined) return both
      throw new ExpressionError(`the branches of a condition differ: ${typeText(second)} and ${typeText(third)}`)
    }
    case '_&&_':
    case '_||_': {
      const other = types.find((type) => !accepts(plain.bool, type))
      if (other === undefined) return plain.bool
      throw new ExpressionError(`'${operatorText(name)}' takes bools, not ${typeText(other)}`)
    }
    case '_==_':
    case '_!=_':
      if (join(first, second) !== undefined || (NUMERIC.has(first.kind) && NUMERIC.has(second.kind))) return plain.bool
      throw new ExpressionError(`${typeText(first)} never equals ${typeText(second)}`)
    case '@in': {
      const among = second.kind === 'list' ? second.element : second.kind === 'map' ? second.key : second
      if (second.kind !== 'list' && second.kind !== 'map' && second.kind !== 'dyn')
        throw new ExpressionError(`'in' looks into a list or a map, not into ${typeText(second)}`)
      if (join(first, among) !== undefined || (NUMERIC.has(first.kind) && NUMERIC.has(among.kind))) return plain.bool
      throw new ExpressionError(`${typeText(first)} is never in ${typeText(second)}`)
    }
    case '@not_strictly_false':
    case '__not_strictly_false__':
      return plain.bool
    case '_+_': {
      if (first.kind !== 'list' || second.kind !== 'list') return undefined
      const both = join(first, second)
      if (both !== undefined) return both
      throw new ExpressionError(`a list holds both ${typeText(first.element)} and ${typeText(second.element)}`)
    }
    default:
      return undefined
  }
}

/** The type that a function gives, from those of its forms that fit. */
export function resultOf(
  name: string,
  fitting: readonly CelFunc[],
  target: ValueType | undefined,
  types: readonly ValueType[],
): ValueType {
  if (name === 'split') return { kind: 'list', element: plain.string }
  if (ELEMENT_FUNCTIONS.has(name) && target?.kind === 'list') {
    const { element } = target
    const fits = NUMERIC.has(element.kind) || (name !== 'sum' && element.kind === 'string') || element.kind === 'dyn'
    if (!fits || (name === 'sum' && element.kind === 'uint'))
      throw new ExpressionError(`${typeText(target)} has no ${name}()`)
    return element
  }
  if (name === 'indexOf' && target?.kind === 'list' && !accepts(target.element, types[0] ?? plain.none)) {
    throw new ExpressionError(`${typeText(types[0] ?? plain.none)} is never in ${typeText(target)}`)
  }
  let result: ValueType | undefined = plain.none
  for (const candidate of fitting) result = result && join(result, fromCelType(candidate.result))
  return result ?? plain.dyn
}

/** `_+_` as people write it. */
export function operatorText(name: string): string {
  if (/[a-z]/i.test(name)) return name.replace('@', '')
  return name.replaceAll('_', '').replace('[]', '[…]')
}
