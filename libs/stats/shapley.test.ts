import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createRandom } from './random.ts'
import { exactEvaluations, exactShapley } from './shapley.ts'
import { baseValue, type ShapleyGame, type ShapleySteps, type ShapleyValues } from './shapley-game.ts'
import { roundEvaluations, sampledShapley } from './shapley-sampling.ts'

type Row = readonly number[]
type Answer = (row: Row) => number

interface Setting {
  readonly answer: Answer
  readonly row: Row
  readonly background: readonly Row[]
}

function gameOf({ answer, row, background }: Setting): ShapleyGame {
  return {
    features: row.length,
    differs: Uint8Array.from(
      background.flatMap((other) => row.map((value, index) => (value === other[index] ? 0 : 1))),
    ),
    prediction: answer(row),
    backgroundPredictions: background.map(answer),
  }
}

/** Answers every hybrid at once, and counts them. */
function drive(steps: ShapleySteps, { answer, row, background }: Setting): ShapleyValues & { asked: number } {
  let asked = 0
  let next = steps.next([])
  while (next.done !== true) {
    const { backgrounds, coalitions } = next.value
    const answers = Array.from(backgrounds, (other, index) =>
      answer(
        row.map((value, at) => (coalitions[index * row.length + at] === 1 ? value : (background[other]?.[at] ?? 0))),
      ),
    )
    asked += answers.length
    next = steps.next(answers)
  }
  return { ...next.value, asked }
}

const exact = (setting: Setting) => drive(exactShapley(gameOf(setting)), setting)

function sampled(setting: Setting, seed: number | string, maxEvaluations: number, target = 0) {
  const options = { random: createRandom(seed), maxEvaluations, targetStandardError: () => target }
  return drive(sampledShapley(gameOf(setting), options), setting)
}

/** The definition: the mean contribution over all orders of the features and all background rows. */
function bruteForce({ answer, row, background }: Setting): number[] {
  const orders = permutations(row.map((_, index) => index))
  const values = row.map(() => 0)
  for (const other of background) {
    for (const order of orders) {
      const hybrid = [...other]
      let before = answer(hybrid)
      for (const feature of order) {
        hybrid[feature] = row[feature] ?? 0
        const after = answer(hybrid)
        values[feature] = (values[feature] ?? 0) + (after - before) / orders.length / background.length
        before = after
      }
    }
  }
  return values
}

function permutations(items: readonly number[]): number[][] {
  if (items.length === 0) return [[]]
  return items.flatMap((first) => permutations(items.filter((item) => item !== first)).map((rest) => [first, ...rest]))
}

function network(features: number, seed: number): Answer {
  const random = createRandom(seed)
  const hidden = Array.from({ length: 4 }, () => Array.from({ length: features }, () => random.normal()))
  return (row) =>
    hidden.reduce((sum, weights, unit) => {
      const input = weights.reduce((dot, weight, index) => dot + weight * (row[index] ?? 0), 0)
      return sum + (unit - 1.3) * Math.tanh(input)
    }, 0)
}

function settingOf(features: number, backgrounds: number, seed: number): Setting {
  const random = createRandom(`rows ${seed}`)
  const row = () => Array.from({ length: features }, () => Math.round(random.normal() * 2))
  return { answer: network(features, seed), row: row(), background: Array.from({ length: backgrounds }, row) }
}

function total(values: ArrayLike<number>): number {
  return Array.from(values).reduce((sum, value) => sum + value, 0)
}

function expectClose(actual: ArrayLike<number>, wanted: ArrayLike<number>, tolerance: number): void {
  expect(actual.length).toBe(wanted.length)
  for (let index = 0; index < wanted.length; index++)
    expect(Math.abs((actual[index] ?? Number.NaN) - (wanted[index] ?? 0)), `feature ${index}`).toBeLessThan(tolerance)
}

describe('exact values', () => {
  test('agree with the definition over all orders', () => {
    for (const [features, backgrounds, seed] of [
      [1, 3, 1],
      [2, 1, 2],
      [3, 4, 3],
      [5, 3, 4],
      [6, 2, 5],
    ] as const) {
      const setting = settingOf(features, backgrounds, seed)
      expectClose(exact(setting).values, bruteForce(setting), 1e-12)
    }
  })

  test("agree to 1e-12 with the shap package's, of networks in which all features interact", () => {
    const { cases } = JSON.parse(readFileSync(new URL('vectors/shapley.json', import.meta.url), 'utf8')) as {
      cases: {
        weights: Row[]
        biases: Row
        outputs: Row
        product: number
        background: Row[]
        row: Row
        base: number
        values: Row
      }[]
    }
    expect(cases.length).toBe(5)
    for (const { weights, biases, outputs, product, background, row, base, values } of cases) {
      const answer: Answer = (given) =>
        outputs.reduce((sum, output, unit) => {
          const input = given.reduce((dot, value, index) => dot + value * (weights[index]?.[unit] ?? 0), 0)
          return sum + output * Math.tanh(input + (biases[unit] ?? 0))
        }, 0) +
        product * (given[0] ?? 0) * (given[1] ?? 0)
      const setting = { answer, row, background }
      expectClose(exact(setting).values, values, 1e-12)
      expect(baseValue(gameOf(setting))).toBeCloseTo(base, 12)
    }
  })

  test('of a linear model are the weight times the distance from the mean', () => {
    const weights = [2, -1, 0.5, 0]
    const answer: Answer = (row) => row.reduce((sum, value, index) => sum + value * (weights[index] ?? 0), 7)
    const background = [
      [0, 0, 0, 0],
      [1, 3, -2, 5],
      [5, 3, 2, 1],
    ]
    const row = [4, -1, 10, 3]
    const means = [2, 2, 0, 2]
    expectClose(
      exact({ answer, row, background }).values,
      weights.map((w, i) => w * ((row[i] ?? 0) - (means[i] ?? 0))),
      1e-12,
    )
  })

  test('share an interaction equally between those that make it', () => {
    const answer: Answer = ([a = 0, b = 0, c = 0, d = 0]) => 6 * a * b * c + 2 * a + d * 0
    const { values } = exact({ answer, row: [1, 1, 1, 1], background: [[0, 0, 0, 0]] })
    expectClose(values, [4, 2, 2, 0], 1e-12)
  })

  test('features that do not differ get nothing and cost nothing', () => {
    const answer = network(14, 9)
    const row = Array.from({ length: 14 }, (_, index) => index)
    const background = [row.map((value, index) => (index < 3 ? value + 1 : value))]
    const setting = { answer, row, background }
    const { values, asked, evaluations } = exact(setting)
    expect([asked, evaluations, exactEvaluations(gameOf(setting))]).toEqual([6, 6, 6])
    expect([...values].slice(3)).toEqual(new Array(11).fill(0))
  })

  test('more than twelve players are refused', () => {
    const setting = settingOf(13, 1, 3)
    const game = { ...gameOf(setting), differs: new Uint8Array(13).fill(1) }
    expect(exactEvaluations(game)).toBe(Number.POSITIVE_INFINITY)
    expect(() => exactShapley(game).next()).toThrow(RangeError)
  })
})

describe('sampled values', () => {
  test('add up to the answer minus the mean answer of the background, as exact ones do', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 9 }),
        fc.integer(),
        (features, rows, seed) => {
          const setting = settingOf(features, rows, seed)
          const game = gameOf(setting)
          const wanted = game.prediction - baseValue(game)
          expect(Math.abs(total(sampled(setting, seed, 1).values) - wanted)).toBeLessThan(1e-11)
          expect(Math.abs(total(exact(setting).values) - wanted)).toBeLessThan(1e-11)
        },
      ),
      { numRuns: 100 },
    )
  })

  test('of a linear model are exact, with no standard error, after two rounds', () => {
    const setting = { ...settingOf(20, 8, 4), answer: (row: Row) => row.reduce((sum, value, i) => sum + i * value, 0) }
    const { values, standardErrors } = sampled(setting, 1, 1)
    const means = setting.row.map((_, i) => total(setting.background.map((row) => row[i] ?? 0)) / 8)
    expectClose(
      values,
      setting.row.map((value, i) => i * (value - (means[i] ?? 0))),
      1e-9,
    )
    expect(Math.max(...standardErrors)).toBeLessThan(1e-9)
  })

  test('lie within two standard errors of the exact ones as often as they should', () => {
    let within = 0
    let all = 0
    for (let seed = 0; seed < 40; seed++) {
      const setting = settingOf(8, 12, seed)
      const { values: wanted } = exact(setting)
      const { values, standardErrors } = sampled(setting, seed, 1_500)
      for (const [feature, value] of values.entries()) {
        const error = standardErrors[feature] ?? 0
        if (error === 0) continue
        all++
        if (Math.abs(value - (wanted[feature] ?? 0)) <= 2 * error) within++
      }
    }
    expect(all).toBeGreaterThan(250)
    expect(within / all).toBeGreaterThan(0.9)
    expect(within / all).toBeLessThan(0.99)
  })

  test('the same seed gives the same values, another seed others', () => {
    const setting = settingOf(9, 4, 1)
    const first = sampled(setting, 'a', 500)
    expect(sampled(setting, 'a', 500)).toEqual(first)
    expect(sampled(setting, 'b', 500).values).not.toEqual(first.values)
  })

  test('end with the budget, after two rounds at least', () => {
    const setting = settingOf(9, 4, 1)
    const round = roundEvaluations(gameOf(setting))
    expect(sampled(setting, 1, 1).evaluations).toBe(2 * round)
    const { evaluations, asked } = sampled(setting, 1, 7 * round + 1)
    expect(evaluations).toBe(7 * round)
    expect(asked).toBe(evaluations)
  })

  test('end as soon as the standard errors are small enough', () => {
    const setting = settingOf(9, 4, 1)
    const loose = sampled(setting, 1, 1e6, 0.05)
    const tight = sampled(setting, 1, 1e6, 0.02)
    expect(Math.max(...loose.standardErrors)).toBeLessThanOrEqual(0.05)
    expect(Math.max(...tight.standardErrors)).toBeLessThanOrEqual(0.02)
    expect(tight.evaluations).toBeGreaterThan(loose.evaluations)
    expect(tight.evaluations).toBeLessThan(1e6)
  })

  test('an order and its reverse vary less than two orders of their own would', () => {
    const setting = settingOf(8, 6, 11)
    const spread = (values: readonly number[]) => {
      const mean = total(values) / values.length
      return total(values.map((value) => (value - mean) ** 2)) / (values.length - 1)
    }
    const paired: number[][] = []
    const alone: number[][] = []
    for (let seed = 0; seed < 200; seed++) {
      paired.push([...sampled(setting, seed, 1).values])
      alone.push(independentOrders(setting, seed))
    }
    const sum = (runs: readonly (readonly number[])[]) =>
      total(setting.row.map((_, feature) => spread(runs.map((run) => run[feature] ?? 0))))
    expect(sum(paired)).toBeLessThan(0.8 * sum(alone))
  })
})

/** Four orders for each background row, each drawn by itself. */
function independentOrders({ answer, row, background }: Setting, seed: number): number[] {
  const random = createRandom(`alone ${seed}`)
  const values = row.map(() => 0)
  for (const other of background) {
    for (let draw = 0; draw < 4; draw++) {
      const hybrid = [...other]
      let before = answer(hybrid)
      for (const feature of random.shuffle(row.map((_, index) => index))) {
        hybrid[feature] = row[feature] ?? 0
        const after = answer(hybrid)
        values[feature] = (values[feature] ?? 0) + (after - before) / 4 / background.length
        before = after
      }
    }
  }
  return values
}
