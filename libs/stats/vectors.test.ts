import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import {
  chiSquareQuantile,
  chiSquareSf,
  chiSquareUpperQuantile,
  noncentralChiSquareCdf,
  noncentralChiSquareSf,
} from './chi-square.ts'
import { gammaP, gammaQ, logGamma, logGammaQ } from './gamma.ts'
import { wilsonInterval } from './intervals.ts'
import { normalCdf, normalQuantile, normalSf } from './normal.ts'
import { aucRoc, brierScore, logLoss } from './performance.ts'
import { twoSampleChiSquare, twoSampleLikelihoodRatio } from './two-sample.ts'

type Row = readonly number[]
const vectors = JSON.parse(readFileSync(new URL('vectors/vectors.json', import.meta.url), 'utf8')) as {
  gamma: Row[]
  logGamma: Row[]
  chiSquareSf: Row[]
  chiSquareUpperQuantile: Row[]
  chiSquareQuantile: Row[]
  normal: Row[]
  normalQuantile: Row[]
  noncentralChiSquare: Row[]
  contingencyTables: { a: number[]; b: number[]; pearson: Row; likelihoodRatio: Row }[]
  wilson: Row[]
  performance: { scores: number[]; labels: number[]; auc: number; logLoss: number; brier: number }
}

const TOLERANCE = 1e-12
/** Smaller values have lost digits to the format of doubles itself. */
const NORMAL_MIN = 2.3e-308

function expectClose(actual: number, wanted: number | undefined, what: string, tolerance = TOLERANCE): void {
  if (wanted === undefined || Math.abs(wanted) < NORMAL_MIN) return
  const error = Math.abs(actual - wanted) / Math.abs(wanted)
  expect(error, `${what}: ${actual} for ${wanted}`).toBeLessThan(tolerance)
}

describe('against mpmath and scipy', () => {
  test('both tails of the incomplete gamma function agree to 1e-12, the logarithm also where the tail underflows', () => {
    expect(vectors.gamma.length).toBeGreaterThan(100)
    for (const [shape = 0, x = 0, lower, upper, logUpper] of vectors.gamma) {
      expectClose(gammaP(shape, x), lower, `P(${shape}, ${x})`)
      expectClose(gammaQ(shape, x), upper, `Q(${shape}, ${x})`)
      expectClose(logGammaQ(shape, x), logUpper ?? undefined, `ln Q(${shape}, ${x})`)
    }
    for (const [x = 0, wanted] of vectors.logGamma) expectClose(logGamma(x), wanted, `ln Γ(${x})`)
  })

  test('chi-square tails and quantiles agree to 1e-12, 8.8e-28 included where one minus the other tail is 0', () => {
    for (const [x = 0, df = 0, wanted] of vectors.chiSquareSf)
      expectClose(chiSquareSf(x, df), wanted, `sf(${x}, ${df})`)
    for (const [p = 0, df = 0, wanted] of vectors.chiSquareUpperQuantile)
      expectClose(chiSquareUpperQuantile(p, df), wanted, `isf(${p}, ${df})`)
    for (const [p = 0, df = 0, wanted] of vectors.chiSquareQuantile)
      expectClose(chiSquareQuantile(p, df), wanted, `ppf(${p}, ${df})`)
  })

  test('the noncentral chi-square agrees to 1e-12 in both tails', () => {
    for (const [x = 0, df = 0, nc = 0, cdf, sf] of vectors.noncentralChiSquare) {
      expectClose(noncentralChiSquareCdf(x, df, nc), cdf, `cdf(${x}, ${df}, ${nc})`)
      expectClose(noncentralChiSquareSf(x, df, nc), sf, `sf(${x}, ${df}, ${nc})`)
    }
  })

  test('the normal distribution agrees to 1e-12 from -30 to 36 standard deviations', () => {
    for (const [z = 0, cdf, sf] of vectors.normal) {
      expectClose(normalCdf(z), cdf, `cdf(${z})`)
      expectClose(normalSf(z), sf, `sf(${z})`)
    }
    for (const [p = 0, wanted] of vectors.normalQuantile) expectClose(normalQuantile(p), wanted, `quantile(${p})`)
  })

  test("both two-sample tests are scipy's contingency tests", () => {
    for (const { a, b, pearson, likelihoodRatio } of vectors.contingencyTables) {
      const results = [
        [twoSampleChiSquare(a, b), pearson],
        [twoSampleLikelihoodRatio(a, b), likelihoodRatio],
      ] as const
      for (const [result, [statistic, pValue]] of results) {
        expectClose(result.statistic, statistic, 'statistic')
        expectClose(result.pValue, pValue, 'p')
      }
    }
  })

  test("Wilson's interval is that of scipy", () => {
    for (const [successes = 0, trials = 0, low = 0, high = 0] of vectors.wilson) {
      const interval = wilsonInterval(successes, trials)
      expect(interval.low).toBeCloseTo(low, 12)
      expect(interval.high).toBeCloseTo(high, 12)
    }
  })

  test('AUC, log loss and Brier score agree, ties included', () => {
    const { scores, labels, ...wanted } = vectors.performance
    const rows = scores.map((score, row) => ({ score, label: labels[row] ?? 0 }))
    expectClose(aucRoc(rows) ?? 0, wanted.auc, 'auc')
    expectClose(logLoss(rows) ?? 0, wanted.logLoss, 'log loss')
    expectClose(brierScore(rows) ?? 0, wanted.brier, 'brier')
  })
})
