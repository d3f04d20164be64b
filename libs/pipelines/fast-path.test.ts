import { type CelInput, isCelList, parse } from '@bufbuild/cel'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compileExpression } from './expression.ts'
import { compileFast } from './fast-path.ts'
import { gatherInPlace } from './rewrite.ts'
import { rowType, type ValueType } from './value-type.ts'

const row = (datatype: Parameters<typeof rowType>[0]['datatype'], ...shape: number[]) =>
  rowType({ datatype, shape: [-1, ...shape] }) as ValueType

const scope = new Map([
  [
    'input',
    new Map([
      ['d', row('FP64')],
      ['n', row('INT64')],
      ['b', row('BOOL')],
      ['s', row('BYTES')],
      ['v', row('FP64', 3)],
    ]),
  ],
])

/** Expressions of each type that are right by their types, some of which have no value for some rows. */
const { double, int, bool, string, list } = fc.letrec<Record<'double' | 'int' | 'bool' | 'string' | 'list', string>>(
  (tie) => {
    const of = (...texts: (string | fc.Arbitrary<string>)[]) =>
      fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        ...texts.map((text) => (typeof text === 'string' ? fc.constant(text) : text)),
      )
    const joined = (pieces: TemplateStringsArray, ...parts: fc.Arbitrary<string>[]) =>
      fc.tuple(...parts).map((texts) => pieces.reduce((all, piece, index) => all + piece + (texts[index] ?? ''), ''))
    const [d, n, b, s, v] = [tie('double'), tie('int'), tie('bool'), tie('string'), tie('list')]
    return {
      double: of(
        'input.d',
        '0.5',
        '-2.0',
        joined`(${d} + ${d})`,
        joined`(${d} - ${d})`,
        joined`(${d} * ${d})`,
        joined`(${d} / ${d})`,
        joined`(-${d})`,
        joined`(${b} ? ${d} : ${d})`,
        joined`double(${n})`,
        joined`math.greatest(${d}, ${d})`,
        joined`math.round(${d})`,
        joined`math.exp(${d})`,
        joined`${v}[${n}]`,
        joined`{"AA": 1.5, "UA": 2.5}[${s}]`,
        joined`${v}.sum()`,
      ),
      int: of(
        'input.n',
        '3',
        '9223372036854775807',
        joined`(${n} + ${n})`,
        joined`(${n} - ${n})`,
        joined`(${n} * ${n})`,
        joined`(-${n})`,
        joined`size(${v})`,
        joined`{1: 7, 2: 8}[${n}]`,
        joined`(${n} / ${n})`,
      ),
      bool: of(
        'input.b',
        'true',
        joined`(${b} && ${b})`,
        joined`(${b} || ${b})`,
        joined`(!${b})`,
        joined`(${d} < ${d})`,
        joined`(${n} >= ${n})`,
        joined`(${d} == ${d})`,
        joined`(${n} != ${n})`,
        joined`(${s} == ${s})`,
        joined`(${d} < ${n})`,
        joined`(${d} in ${v})`,
        joined`(${s} in ["AA", "B"])`,
        joined`(${n} in {1: "a"})`,
        joined`${v}.exists(x, x > ${d})`,
        joined`${v}.all(x, x > ${d})`,
        joined`${v}.exists_one(x, x > ${d})`,
        joined`math.isNaN(${d})`,
      ),
      string: of('input.s', '"AA"', joined`(${s} + ${s})`, joined`(${b} ? ${s} : ${s})`, joined`["x", "y"][${n}]`),
      list: of(
        'input.v',
        '[1.0, 2.0]',
        joined`[${d}, ${d}]`,
        joined`${v}.map(x, x * ${d})`,
        joined`${v}.filter(x, x < ${d})`,
        joined`${v}.map(x, x > 0.0, x + ${d})`,
        joined`(${v} + ${v})`,
        joined`(${b} ? ${v} : ${v})`,
      ),
    }
  },
)

const rows = fc.record({
  d: fc.oneof(fc.double(), fc.constantFrom(0, -0, 1, Number.NaN)),
  n: fc.oneof(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.constantFrom(0n, 1n, 2n)),
  b: fc.boolean(),
  s: fc.constantFrom('AA', 'UA', '', 'é'),
  v: fc.array(fc.oneof(fc.double(), fc.constantFrom(0, 1, 2)), { minLength: 3, maxLength: 3 }),
})

function outcome(evaluate: () => CelInput): unknown {
  try {
    return flat(evaluate())
  } catch (error) {
    return String(error)
  }
}

function flat(value: CelInput): unknown {
  return isCelList(value) || Array.isArray(value) ? [...value].map(flat) : value
}

function fast(text: string) {
  const { expr } = parse(text)
  gatherInPlace(expr)
  return compileFast(expr, [])
}

test.each([
  '1.0 + 2.0 * 3.0',
  '[1.0, 2.0].map(x, x / 2.0)',
  '[1, 2].filter(x, x > 1).exists(x, x == 2)',
  '{"a": 1}["a"] == 1 ? "yes" : "no"',
  'math.greatest(1.0, 2.0)',
  '"a" in ["a"] && !false',
])('%s goes the fast way', (text) => {
  expect(fast(text)).toBeDefined()
})

test.each(['"%d".format([1])', 'dyn(1)', '1u + 2u', '[1, 2.0]', '{1: 2u}[1]'])('%s is left to the library', (text) => {
  expect(fast(text)).toBeUndefined()
})

describe('the fast way gives what the CEL library gives', () => {
  test.each(Object.entries({ double, int, bool, string, list }))('for expressions of type %s', (_, expressions) => {
    fc.assert(
      fc.property(expressions, rows, (text, values) => {
        fc.pre(text.length < 2000)
        const expression = compileExpression(text, scope)
        const given = expression.references.map(({ output }) => values[output as keyof typeof values])
        expect(outcome(() => expression.evaluate(given))).toEqual(outcome(() => expression.evaluateExactly(given)))
      }),
      { numRuns: 400 },
    )
  })
})
