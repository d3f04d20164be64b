/**
 * The functions that expressions have: those of CEL, its strings extension, its math extension as far as it concerns
 * numbers, and what Kubernetes added for lists. `math.exp`, `math.log` and `math.pow` are ours: hardly a model does without.
 */
import {
  type CelEnv,
  type CelList,
  CelScalar,
  type CelValue,
  celEnv,
  celFunc,
  celList,
  celMethod,
  isCelList,
  isCelUint,
  listType,
} from '@bufbuild/cel'
import { strings } from '@bufbuild/cel/ext'
import { plain, type ValueType } from './value-type.ts'

const { BOOL, DOUBLE, DYN, INT, UINT } = CelScalar
const LIST = listType(DYN)

/** Adds an element to the list that a comprehension gathers; see `rewrite.ts`. */
export const APPEND = '@append'

/** The `sum` of a list of int, whose sum is an int also when the list is empty. */
export const SUM_OF_INTS = '@sum_of_ints'

/** Functions of a list whose result is one of its elements. */
export const ELEMENT_FUNCTIONS: ReadonlySet<string> = new Set(['max', 'min', 'sum'])

interface DoubleFunction {
  readonly type: ValueType
  readonly arity: number
  readonly call: (first: number, second: number) => number | boolean
}

/** The functions of doubles, for whoever knows that they are. */
export const DOUBLE_FUNCTIONS: ReadonlyMap<string, DoubleFunction> = new Map<string, DoubleFunction>([
  ['math.greatest', { type: plain.double, arity: 2, call: Math.max }],
  ['math.least', { type: plain.double, arity: 2, call: Math.min }],
  ['math.pow', { type: plain.double, arity: 2, call: (base, exponent) => base ** exponent }],
  ['math.abs', { type: plain.double, arity: 1, call: (value) => Math.abs(value) }],
  ['math.ceil', { type: plain.double, arity: 1, call: (value) => Math.ceil(value) }],
  ['math.floor', { type: plain.double, arity: 1, call: (value) => Math.floor(value) }],
  ['math.round', { type: plain.double, arity: 1, call: roundHalfAway }],
  ['math.trunc', { type: plain.double, arity: 1, call: (value) => Math.trunc(value) }],
  ['math.sign', { type: plain.double, arity: 1, call: (value) => Math.sign(value) }],
  ['math.sqrt', { type: plain.double, arity: 1, call: (value) => Math.sqrt(value) }],
  ['math.exp', { type: plain.double, arity: 1, call: (value) => Math.exp(value) }],
  ['math.log', { type: plain.double, arity: 1, call: (value) => Math.log(value) }],
  ['math.isNaN', { type: plain.bool, arity: 1, call: (value) => Number.isNaN(value) }],
  ['math.isInf', { type: plain.bool, arity: 1, call: (value) => Math.abs(value) === Number.POSITIVE_INFINITY }],
  ['math.isFinite', { type: plain.bool, arity: 1, call: (value) => Number.isFinite(value) }],
])

function roundHalfAway(value: number): number {
  return Math.sign(value) * Math.round(Math.abs(value))
}

// `Math.max` takes no bigints.
function larger(left: bigint, right: bigint): bigint {
  if (left > right) return left
  return right
}

const functions = [
  ...[...DOUBLE_FUNCTIONS].map(([name, { type, arity, call }]) => {
    const result = type.kind === 'bool' ? BOOL : DOUBLE
    if (arity === 1) return celFunc(name, [DOUBLE], result, (value) => call(value, 0))
    return celFunc(name, [DOUBLE, DOUBLE], result, (first, second) => call(first, second))
  }),
  celFunc('math.greatest', [INT, INT], INT, larger),
  celFunc('math.greatest', [UINT, UINT], UINT, (left, right) => (left.value > right.value ? left : right)),
  celFunc('math.least', [INT, INT], INT, (left, right) => (larger(left, right) === left ? right : left)),
  celFunc('math.least', [UINT, UINT], UINT, (left, right) => (left.value < right.value ? left : right)),
  celFunc('math.abs', [INT], INT, (value) => (value < 0n ? -value : value)),
  celMethod('max', LIST, [], DYN, function () {
    return best(this, (value, than) => compare(value, than) > 0)
  }),
  celMethod('min', LIST, [], DYN, function () {
    return best(this, (value, than) => compare(value, than) < 0)
  }),
  celMethod('sum', LIST, [], DOUBLE, function () {
    return sumOfDoubles(this)
  }),
  celMethod(SUM_OF_INTS, LIST, [], INT, function () {
    return sumOfInts(this)
  }),
  celMethod('indexOf', LIST, [DYN], INT, function (wanted) {
    let index = 0n
    for (const value of this) {
      if (isSame(value, wanted)) return index
      index++
    }
    return -1n
  }),
  celFunc(APPEND, [LIST, DYN], LIST, append),
]

/** The environment of all expressions. */
export const environment: CelEnv = celEnv({ funcs: [...strings, ...functions] })

/** Lists that `append` made; each is known to nobody but the comprehension that gathers it. */
const gathered = new WeakMap<CelList, CelValue[]>()

function append(list: CelList, value: CelValue): CelList {
  const known = gathered.get(list)
  if (known !== undefined) {
    known.push(value)
    return list
  }
  const values = [...list, value]
  const fresh = celList(values as Parameters<typeof celList>[0])
  gathered.set(fresh, values)
  return fresh
}

function compare(left: CelValue, right: CelValue): number {
  const a = isCelUint(left) ? left.value : left
  const b = isCelUint(right) ? right.value : right
  if (typeof a !== typeof b || !['number', 'bigint', 'string'].includes(typeof a)) throw new Error('no order')
  if (a === b) return 0
  return (a as number) < (b as number) ? -1 : 1
}

/** NaN, if there is one, is both the largest and the smallest. */
function best(list: CelList, isBetter: (value: CelValue, than: CelValue) => boolean): CelValue {
  let found: CelValue | undefined
  for (const value of list) {
    if (typeof value === 'number' && Number.isNaN(value)) return value
    if (found === undefined || isBetter(value, found)) found = value
  }
  if (found === undefined) throw new Error('an empty list')
  return found
}

function sumOfDoubles(list: CelList): number {
  let sum = 0
  for (const value of list) {
    if (typeof value !== 'number') throw new Error('no matching overload')
    sum += value
  }
  return sum
}

function sumOfInts(list: CelList): bigint {
  let sum = 0n
  for (const value of list) {
    if (typeof value !== 'bigint') throw new Error('no matching overload')
    sum += value
  }
  if (sum !== BigInt.asIntN(64, sum)) throw new Error('int overflow')
  return sum
}

function isSame(left: CelValue, right: CelValue): boolean {
  if (isCelUint(left) && isCelUint(right)) return left.value === right.value
  return !isCelList(left) && left === right
}
