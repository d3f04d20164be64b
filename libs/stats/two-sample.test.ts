import { describe, expect, test } from 'vitest'
import { binCellCount, binIndex, emptyCounts, quantileBins } from './cells.ts'
import { jensenShannon, populationStabilityIndex, totalVariation } from './divergences.ts'
import { normalCdf } from './normal.ts'
import { createRandom, type Random } from './random.ts'
import {
  detectableEffect,
  effectInterval,
  effectOf,
  twoSampleChiSquare,
  twoSampleLikelihoodRatio,
} from './two-sample.ts'

function draw(random: Random, shares: readonly number[], rows: number): number[] {
  const upTo = shares.map((_, cell) => shares.slice(0, cell + 1).reduce((sum, share) => sum + share, 0))
  const counts = emptyCounts(shares.length)
  for (let row = 0; row < rows; row++) {
    const at = random.uniform()
    const cell = upTo.findIndex((end) => at < end)
    counts[cell] = (counts[cell] ?? 0) + 1
  }
  return counts
}

/** Shares of a normal shifted by `delta` over the deciles of the standard normal. */
function shiftedDeciles(delta: number): number[] {
  const cuts = [-1.2816, -0.8416, -0.5244, -0.2533, 0, 0.2533, 0.5244, 0.8416, 1.2816]
  const below = [...cuts.map((cut) => normalCdf(cut - delta)), 1]
  return below.map((share, i) => share - (below[i - 1] ?? 0))
}

describe('two-sample test', () => {
  test.each([2, 5, 10, 20])('without a difference it alarms at its level, %i cells, any ratio of sizes', (cells) => {
    const random = createRandom(cells)
    const shares = new Array<number>(cells).fill(1 / cells)
    for (const [n, m] of [
      [100, 1000],
      [200, 200],
      [400, 200],
    ] as const) {
      const runs = 2000
      for (const test of [twoSampleChiSquare, twoSampleLikelihoodRatio]) {
        const alarms = Array.from({ length: runs }, () => test(draw(random, shares, n), draw(random, shares, m)))
        const rate = alarms.filter(({ pValue }) => pValue < 0.05).length / runs
        expect(rate).toBeGreaterThan(0.035)
        // With five rows a cell the likelihood ratio is a little eager at this level; it is not in its tail.
        expect(rate).toBeLessThan(test === twoSampleChiSquare ? 0.065 : 0.08)
      }
    }
  })

  test('the interval of the effect covers the truth, from no difference to a large one', () => {
    const random = createRandom('coverage')
    for (const delta of [0, 0.2, 0.5, 1.5]) {
      const [p, q] = [shiftedDeciles(delta), shiftedDeciles(0)]
      const truth = effectOf(p.map((share, i) => [share, q[i] ?? 0]))
      const runs = 300
      const covered = Array.from({ length: runs }, () => {
        const { low, high } = effectInterval(twoSampleChiSquare(draw(random, p, 600), draw(random, q, 3000)))
        return low <= truth && truth <= high
      })
      expect(covered.filter(Boolean).length / runs, `delta ${delta}, effect ${truth}`).toBeGreaterThan(0.92)
    }
  })

  test("Pearson's test merges what is rare in both samples together", () => {
    const rare = twoSampleChiSquare([100, 100, 1, 0], [500, 500, 0, 1])
    expect(rare.degreesOfFreedom).toBe(1)
    expect(rare.pValue).toBeGreaterThan(0.5)
  })

  test('a category new to a reference of any size counts in full, one odd row does not alarm', () => {
    for (const reference of [500, 50_000, 5_000_000]) {
      expect(twoSampleLikelihoodRatio([100, 100, 40], [reference, reference, 0]).pValue).toBeLessThan(1e-15)
      const odd = twoSampleLikelihoodRatio([100, 100, 1], [reference, reference, 0]).pValue
      expect(odd).toBeGreaterThan(10 / reference)
    }
    const random = createRandom('rare')
    const shares = [0.4, 0.4, 0.1, 0.0995, 0.0005]
    const runs = Array.from({ length: 2000 }, () =>
      twoSampleLikelihoodRatio(draw(random, shares, 200), draw(random, shares, 4000)),
    )
    expect(runs.filter(({ pValue }) => pValue < 0.001).length).toBeLessThan(8)
  })

  test('one wild value among 5000 changes no score by more than one percent', () => {
    const random = createRandom('outlier')
    const reference = Array.from({ length: 5000 }, random.normal)
    const edges = quantileBins(reference, 10)
    const count = (values: number[]) =>
      values.reduce<number[]>(
        (counts, value) => {
          const cell = binIndex(edges, value)
          counts[cell] = (counts[cell] ?? 0) + 1
          return counts
        },
        emptyCounts(binCellCount(edges)),
      )
    const shifted = Array.from({ length: 5000 }, () => random.normal() + 1)
    const clean = twoSampleChiSquare(count(shifted), count(reference)).effect
    const wild = twoSampleChiSquare(count([...shifted, 1e8]), count(reference)).effect
    expect(Math.abs(wild / clean - 1)).toBeLessThan(0.01)
  })

  test('nothing to compare is no difference, with the widest interval', () => {
    const result = twoSampleChiSquare([0, 0], [5, 5])
    expect(result).toMatchObject({ statistic: 0, pValue: 1, degreesOfFreedom: 0 })
    expect(effectInterval(result)).toEqual({ low: 0, high: 1 })
  })

  test('what is said to be detectable with power 0.9 is detected nine times of ten', () => {
    const random = createRandom('power')
    const critical = 27.9
    const effect = detectableEffect(critical, 9, (1000 * 4000) / 5000)
    const truth = (delta: number) => effectOf(shiftedDeciles(delta).map((share) => [share, 0.1]))
    let delta = 0
    while (truth(delta) < effect) delta += 0.001
    const runs = Array.from({ length: 400 }, () =>
      twoSampleChiSquare(draw(random, shiftedDeciles(delta), 1000), draw(random, shiftedDeciles(0), 4000)),
    )
    const power = runs.filter(({ statistic }) => statistic > critical).length / runs.length
    expect(power).toBeGreaterThan(0.86)
    expect(power).toBeLessThan(0.94)
  })
})

describe('distances', () => {
  test('the table of a shifted normal over its deciles comes out', () => {
    const counts = (delta: number) => shiftedDeciles(delta).map((share) => share * 1e9)
    for (const [delta, psi, jsd] of [
      [0.1, 0.01, 0.0017],
      [0.5, 0.238, 0.042],
      [1, 0.926, 0.153],
    ] as const) {
      expect(populationStabilityIndex(counts(0), counts(delta))).toBeCloseTo(psi, 2)
      expect(jensenShannon(counts(0), counts(delta))).toBeCloseTo(jsd, 3)
    }
  })

  test('disjoint distributions are at distance 1, equal ones at 0, and the effect lies between moved share and its root', () => {
    expect(jensenShannon([1, 0], [0, 1])).toBe(1)
    expect(totalVariation([1, 1, 0], [1, 0, 1])).toBe(0.5)
    expect(
      effectOf([
        [1, 0],
        [0, 3],
      ]),
    ).toBe(1)
    expect(
      effectOf([
        [2, 4],
        [1, 2],
      ]),
    ).toBe(0)
    const effect = effectOf([
      [3, 1],
      [1, 5],
    ])
    const moved = totalVariation([3, 1], [1, 5])
    expect(effect).toBeGreaterThanOrEqual(moved)
    expect(effect).toBeLessThanOrEqual(Math.sqrt(moved))
  })
})
