/** Operators as they are evaluated by the types of their operands; see `fast-path.ts`. */
import type { Constant } from '@bufbuild/cel-spec/cel/expr/syntax_pb.js'
import { plain, typeText, type ValueType } from './value-type.ts'

/** The values of the variables, those of the loops behind them. */
export type Frame = unknown[]

/** A part of an expression that can be evaluated fast. */
export interface Compiled {
  readonly type: ValueType
  readonly run: (frame: Frame) => unknown
}

/** Something that only the library knows. */
export class Unsupported extends Error {}

/** A literal. */
export function constant({ constantKind: { case: kind, value } }: Constant): Compiled {
  const types = {
    boolValue: plain.bool,
    int64Value: plain.int,
    doubleValue: plain.double,
    stringValue: plain.string,
  } as const
  const type = Object.hasOwn(types, kind ?? '') ? types[kind as keyof typeof types] : undefined
  if (type === undefined) throw new Unsupported()
  return { type, run: () => value }
}

/** `condition ? yes : no`. */
export function conditional(name: string, condition: Compiled, yes: Compiled, no: Compiled): Compiled {
  if (name !== '_?_:_' || condition.type.kind !== 'bool') throw new Unsupported()
  const type = isEmpty(yes.type) ? no.type : yes.type
  if (!isSame(yes.type, no.type) && !isEmpty(yes.type) && !isEmpty(no.type)) throw new Unsupported()
  return { type, run: (frame) => (condition.run(frame) === true ? yes.run(frame) : no.run(frame)) }
}

/** Whether two types are the same in all their parts. */
export function isSame(one: ValueType, other: ValueType): boolean {
  return typeText(one) === typeText(other)
}

function isEmpty(type: ValueType): boolean {
  return type.kind === 'list' && type.element.kind === 'none'
}

/** Operators and functions of one operand. */
export function unary(name: string, { type, run }: Compiled): Compiled {
  switch (`${name} ${type.kind}`) {
    case '!_ bool':
      return { type, run: (frame) => run(frame) !== true }
    case '-_ double':
      return { type, run: (frame) => -(run(frame) as number) }
    case '-_ int':
      return { type, run: (frame) => inRange(-(run(frame) as bigint)) }
    case 'double double':
      return { type, run }
    case 'double int':
      return { type: plain.double, run: (frame) => Number(run(frame)) }
    case 'size list':
      return { type: plain.int, run: (frame) => BigInt((run(frame) as readonly unknown[]).length) }
    case '@not_strictly_false bool':
      return { type, run }
    default:
      throw new Unsupported()
  }
}

/** Operators of two operands of one type. */
export function binary(name: string, { type, run: left }: Compiled, { type: other, run: right }: Compiled): Compiled {
  if (type.kind !== other.kind) throw new Unsupported()
  const of = <T>(result: ValueType, apply: (left: T, right: T) => unknown): Compiled => {
    return { type: result, run: (frame) => apply(left(frame) as T, right(frame) as T) }
  }
  switch (`${name} ${type.kind}`) {
    case '_&&_ bool':
      return { type, run: (frame) => left(frame) === true && right(frame) === true }
    case '_||_ bool':
      return { type, run: (frame) => left(frame) === true || right(frame) === true }
    case '_+_ double':
      return of<number>(type, (a, b) => a + b)
    case '_-_ double':
      return of<number>(type, (a, b) => a - b)
    case '_*_ double':
      return of<number>(type, (a, b) => a * b)
    case '_/_ double':
      return of<number>(type, (a, b) => a / b)
    case '_+_ int':
      return of<bigint>(type, (a, b) => inRange(a + b))
    case '_-_ int':
      return of<bigint>(type, (a, b) => inRange(a - b))
    case '_*_ int':
      return of<bigint>(type, (a, b) => inRange(a * b))
    case '_+_ string':
      return of<string>(type, (a, b) => a + b)
    case '_<_ double':
    case '_<_ int':
      return of<number>(plain.bool, (a, b) => a < b)
    case '_<=_ double':
    case '_<=_ int':
      return of<number>(plain.bool, (a, b) => a <= b)
    case '_>_ double':
    case '_>_ int':
      return of<number>(plain.bool, (a, b) => a > b)
    case '_>=_ double':
    case '_>=_ int':
      return of<number>(plain.bool, (a, b) => a >= b)
    case '_==_ double':
    case '_==_ int':
    case '_==_ bool':
    case '_==_ string':
      return of(plain.bool, (a, b) => a === b)
    case '_!=_ double':
    case '_!=_ int':
    case '_!=_ bool':
    case '_!=_ string':
      return of(plain.bool, (a, b) => a !== b)
    default:
      throw new Unsupported()
  }
}

/** Anything that is not there is left to the library, which says why. */
function there<T>(value: T | undefined): T {
  if (value === undefined) throw new RangeError('not there')
  return value
}

/** `list[index]` and `map[key]`. */
export function index({ type, run }: Compiled, { type: by, run: key }: Compiled): Compiled {
  if (type.kind === 'map' && type.key.kind === by.kind) {
    return { type: type.value, run: (frame) => there((run(frame) as ReadonlyMap<unknown, unknown>).get(key(frame))) }
  }
  if (type.kind !== 'list' || by.kind !== 'int') throw new Unsupported()
  return { type: type.element, run: (frame) => there((run(frame) as readonly unknown[])[Number(key(frame))]) }
}

/** `value in list` and `value in map`. */
export function contains({ type, run }: Compiled, { type: among, run: all }: Compiled): Compiled {
  if (!['double', 'int', 'bool', 'string'].includes(type.kind)) throw new Unsupported()
  if (among.kind === 'map' && among.key.kind === type.kind) {
    return { type: plain.bool, run: (frame) => (all(frame) as ReadonlyMap<unknown, unknown>).has(run(frame)) }
  }
  if (among.kind !== 'list' || among.element.kind !== type.kind) throw new Unsupported()
  // `includes` would find NaN.
  return { type: plain.bool, run: (frame) => (all(frame) as readonly unknown[]).indexOf(run(frame)) >= 0 }
}

/** A list that a loop gathers, with one element more. */
export function append({ type, run }: Compiled, { type: element, run: added }: Compiled): Compiled {
  if (type.kind !== 'list') throw new Unsupported()
  return {
    type: { kind: 'list', element },
    run: (frame) => {
      // The list is the loop's own, made by the literal with which it begins.
      const list = run(frame) as unknown[]
      list.push(added(frame))
      return list
    },
  }
}

function inRange(value: bigint): bigint {
  if (BigInt.asIntN(64, value) !== value) throw new RangeError('overflow')
  return value
}
