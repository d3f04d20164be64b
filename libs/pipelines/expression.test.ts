import { CelScalar, celUint, isCelList } from '@bufbuild/cel'
import { describe, expect, test } from 'vitest'
import type { Size } from './cost.ts'
import { compileExpression, freeNames, MAX_EXPRESSION_CHARACTERS, MAX_ROW_COST } from './expression.ts'
import { ExpressionError } from './expression-error.ts'
import { plain, rowType, typeText, type ValueType } from './value-type.ts'

const row = (datatype: Parameters<typeof rowType>[0]['datatype'], ...shape: number[]): ValueType =>
  rowType({ datatype, shape: [-1, ...shape] }) ?? plain.none

const scope = new Map([
  [
    'input',
    new Map([
      ['d', row('FP32')],
      ['v', row('FP32', 4)],
      ['m', row('FP64', 2, 2)],
      ['n', row('INT64')],
      ['u', row('UINT8')],
      ['s', row('BYTES')],
      ['b', row('BOOL')],
      ['odd name:0', row('FP32')],
    ]),
  ],
  ['score', new Map([['p', row('FP32', 3)]])],
])

const values: Readonly<Record<string, Parameters<ReturnType<typeof compileExpression>['evaluate']>[0][number]>> = {
  d: 1.5,
  v: [4, 1, 3, 2],
  m: [
    [1, 2],
    [3, 4],
  ],
  n: 7n,
  u: celUint(200n),
  s: 'AA',
  b: true,
  'odd name:0': 0.25,
  p: [0.2, 0.7, 0.1],
}

function evaluate(text: string) {
  const expression = compileExpression(text, scope)
  const value = expression.evaluate(expression.references.map(({ output }) => values[output] ?? null))
  return { type: typeText(expression.type), value: plainValue(value) }
}

function plainValue(value: unknown): unknown {
  return isCelList(value) ? [...value].map(plainValue) : value
}

describe('an expression has the value and the type that CEL says', () => {
  const cases: readonly [string, string, unknown][] = [
    ['(input.d - 0.5) * 2.0', 'double', 2],
    ['input["odd name:0"] + 1.0', 'double', 1.25],
    ['input.b ? "yes" : "no"', 'string', 'yes'],
    ['[input.d, double(input.n)]', 'list(double)', [1.5, 7]],
    ['input.v.map(x, x / 2.0)', 'list(double)', [2, 0.5, 1.5, 1]],
    ['input.v.filter(x, x > 1.5).map(x, x * 10.0)', 'list(double)', [40, 30, 20]],
    [
      'input.m.map(r, r.map(x, x + 1.0))',
      'list(list(double))',
      [
        [2, 3],
        [4, 5],
      ],
    ],
    ['input.m[1][0]', 'double', 3],
    ['input.v.all(x, x > 0.0) && input.v.exists(x, x == 4.0)', 'bool', true],
    ['input.v.exists_one(x, x > 3.5)', 'bool', true],
    ['["low", "mid", "high"][score.p.indexOf(score.p.max())]', 'string', 'mid'],
    ['{"AA": 1.5, "UA": 2.5}[input.s]', 'double', 1.5],
    ['input.s in ["UA", "AA"]', 'bool', true],
    ['input.s in {"UA": 1}', 'bool', false],
    ['has({"a": 1}.b) ? 1 : 2', 'int', 2n],
    ['math.least(math.greatest(input.d, 2.0), 3.0)', 'double', 2],
    ['math.greatest(input.n, 9)', 'int', 9n],
    ['math.round(-2.5)', 'double', -3],
    ['math.exp(0.0) + math.log(1.0) + math.pow(2.0, 3.0) + math.sqrt(4.0)', 'double', 11],
    ['math.isNaN(0.0 / 0.0)', 'bool', true],
    ['input.v.sum() / double(size(input.v))', 'double', 2.5],
    ['[1, 2, 3].sum()', 'int', 6n],
    ['[1].filter(x, x > 1).sum()', 'int', 0n],
    ['input.v.min()', 'double', 1],
    ['"%s flies %.1f".format([input.s, input.d])', 'string', 'AA flies 1.5'],
    ['input.s.lowerAscii() + "-" + string(input.n)', 'string', 'aa-7'],
    ['"a,b,c".split(",")[1]', 'string', 'b'],
    ['["a", "b"].join("+")', 'string', 'a+b'],
    ['input.s.matches("^[A-Z]+$")', 'bool', true],
    ['int(input.u) % 7', 'int', 4n],
    ['-input.n', 'int', -7n],
    ['input.n < input.d', 'bool', false],
    ['input.v + [9.0]', 'list(double)', [4, 1, 3, 2, 9]],
    ['[] + input.v', 'list(double)', [4, 1, 3, 2]],
    ['input.v.map(input, input + 1.0)', 'list(double)', [5, 2, 4, 3]],
    ['input.v.map(t, t > 2.0, t)', 'list(double)', [4, 3]],
  ]
  test.each(cases)('%s', (text, type, value) => {
    expect(evaluate(text)).toEqual({ type, value })
  })

  test('with unsigned numbers', () => {
    expect(evaluate('input.u + 1u')).toEqual({ type: 'uint', value: celUint(201n) })
    expect(CelScalar.UINT.name).toBe('uint')
  })

  test('the same value each time, whatever the row before', () => {
    const expression = compileExpression('input.v.map(x, x > 2.0, x)', scope)
    const evaluateOn = (list: readonly number[]) => plainValue(expression.evaluate([[...list]]))
    expect(evaluateOn([1, 3, 5])).toEqual([3, 5])
    expect(evaluateOn([9])).toEqual([9])
    expect(evaluateOn([0])).toEqual([])
  })
})

describe('an expression that cannot be right is refused before it is evaluated', () => {
  const cases: readonly [string, string][] = [
    ['input.d + input.n', "'+' does not take (double, int): convert one of them, as in double(…)"],
    ['input.q', "there is no 'input.q', only d, v, m, n"],
    ['input.d.x', "double has no fields, so no 'x'"],
    ['other.x', "there is no 'other', only input, score"],
    ['score + 1.0', "'score' is a step, not a tensor"],
    ['input[input.s]', 'input[…] takes the name of a tensor as a text'],
    ['has(input.d)', 'has() asks about keys of maps'],
    ['input.s == 3', 'string never equals int'],
    ['3 in ["a"]', 'int is never in list(string)'],
    ['input.d in input.d', "'in' looks into a list or a map, not into double"],
    ['input.b ? 1 : "x"', 'the branches of a condition differ: int and string'],
    ['input.n ? 1 : 2', 'a condition is a bool, not int'],
    ['input.b && input.n', "'&&' takes bools, not int"],
    ['input.v["a"]', 'a list is indexed by an int, not by string'],
    ['{"a": 1}[3]', 'map(string, int) has no keys of type int'],
    ['input.d.map(x, x)', 'double is neither a list nor a map'],
    ['nothing(input.d)', "there is no function 'nothing'"],
    ['input.s.sum()', "'string.sum' does not take ()"],
    ['["a"].sum()', 'list(string) has no sum()'],
    ['input.d ==', 'it cannot be parsed'],
    ['Thing{a: 1}', "there is no message 'Thing'"],
    ['{"a": 1, "a": 2}[input.s]', 'map key conflict'],
  ]
  test.each(cases)('%s', (text, problem) => {
    expect(() => compileExpression(text, scope)).toThrow(problem)
  })
})

test('an expression that is too long, or whose brackets are nested too deep, is not parsed', () => {
  const long = `"${'x'.repeat(MAX_EXPRESSION_CHARACTERS)}"`
  expect(() => compileExpression(long, scope)).toThrow('at most 16384 are allowed')
  expect(() => compileExpression('('.repeat(100), scope)).toThrow('its brackets are nested more than 64 deep')
})

test('an expression nested however deep is refused, never too deep for the stack', () => {
  const deep = [
    `input.d${' + input.d'.repeat(1000)}`,
    `${'input.b ? 1 : '.repeat(1000)}2`,
    `${'-'.repeat(9999)}input.d`,
    `${'!'.repeat(9999)}input.b`,
    `input.s${'.trim()'.repeat(2000)}`,
    `input${'.x'.repeat(5000)}`,
    `input.b${' && input.b'.repeat(1000)}`,
  ]
  for (const text of deep) {
    try {
      compileExpression(text, scope)
    } catch (error) {
      expect(error).toBeInstanceOf(ExpressionError)
    }
  }
  expect(() => compileExpression(deep[0] ?? '', scope)).toThrow('its operators are nested more than 256 deep')
})

describe('what an expression may cost is known before it is evaluated', () => {
  const cost = (text: string, ...sizes: Size[]) => compileExpression(text, scope).cost(sizes)
  const list = (size: number): Size => ({ size, element: { size: 1 } })

  test('a loop costs as much as its list is long, loops inside each other the product', () => {
    const one = cost('input.v.map(x, x + 1.0)', list(100))
    expect(cost('input.v.map(x, x + 1.0)', list(1000)) / one).toBeCloseTo(10, 0)
    const nested = 'input.v.map(x, input.v.map(y, x + y))'
    expect(cost(nested, list(40)) / cost(nested, list(20))).toBeGreaterThan(3.5)
    expect(() => cost(nested, list(1000))).toThrow(`at most ${MAX_ROW_COST} are allowed`)
  })

  test('texts that double in every loop are refused by their size, also where only their length is asked for', () => {
    let text = 'input.s'
    for (let level = 0; level < 20; level++) text = `[${text}].map(s, s + s)[0]`
    expect(() => cost(text, { size: 100 })).toThrow(/at most/)
    expect(() => cost(`size(${text})`, { size: 100 })).toThrow(/at most/)
  })

  test('the bound holds: no list that is made is longer than was said', () => {
    const expression = compileExpression('input.v.map(x, [x, x]).map(p, p + p)', scope)
    const given = [1, 2, 3]
    expect(() => expression.cost([list(given.length)])).not.toThrow()
    expect(plainValue(expression.evaluate([given]))).toHaveLength(3)
  })
})

describe('a row for which an expression has no value', () => {
  const cases: readonly [string, string][] = [
    ['1 / (input.n - 7)', 'division by zero'],
    ['input.v[9]', 'an index beyond the end'],
    ['{"secret": 1}["x" + input.s]', 'a key that is not in the map'],
    ['int(input.s)', 'a text that cannot be converted'],
    ['input.n * 9223372036854775807', 'a number that does not fit'],
    ['input.v.filter(x, x > 99.0).max()', 'an empty list'],
    ['dyn(input.d) + 1', 'values of types that do not go together'],
  ]
  test.each(cases)('%s: the reason tells no value', (text, reason) => {
    expect(() => evaluate(text)).toThrow(new RegExp(`^${reason}$`))
  })
})

test('the names that an expression uses are those that it does not bind itself, and none in texts', () => {
  expect([...freeNames('score.p.map(label, label + input.d)[0] > 0.5 ? "label" : "other"')]).toEqual(['score', 'input'])
  expect([...freeNames('broken (')]).toEqual([])
})
