import { expect, test } from 'vitest'
import { type BoostingOptions, fitBoostedTrees, type Matrix, predictBoostedTrees } from './boosting.ts'

const options: BoostingOptions = {
  trees: 40,
  maxDepth: 3,
  learningRate: 0.2,
  minLeafHessian: 1,
  lambda: 1,
  rowShare: 0.8,
  seed: 7,
}

const rows = 2000
const first = Float32Array.from({ length: rows }, (_, i) => ((i * 7919) % 1000) / 1000)
const second = Float32Array.from({ length: rows }, (_, i) => (i % 5 === 0 ? Number.NaN : ((i * 104729) % 997) / 997))
const matrix: Matrix = { names: ['first', 'second'], columns: [first, second], rows }
const exclusiveOr = Uint8Array.from(first, (value, i) => Number(value > 0.5 !== (second[i] ?? Number.NaN) > 0.5))

test('trees learn an interaction that no single feature shows', () => {
  const probabilities = predictBoostedTrees(fitBoostedTrees(matrix, exclusiveOr, options), matrix)
  const right = probabilities.filter((probability, i) => Math.round(probability) === exclusiveOr[i]).length
  expect(right / rows).toBeGreaterThan(0.97)
})

test('a missing value has a side of its own', () => {
  const missing = Uint8Array.from(second, (value) => Number(Number.isNaN(value)))
  const probabilities = predictBoostedTrees(fitBoostedTrees(matrix, missing, options), matrix)
  expect(probabilities.every((probability, i) => Math.round(probability) === missing[i])).toBe(true)
})

test('the same seed gives the same trees, another seed others', () => {
  const model = fitBoostedTrees(matrix, exclusiveOr, options)
  expect(fitBoostedTrees(matrix, exclusiveOr, options)).toEqual(model)
  expect(fitBoostedTrees(matrix, exclusiveOr, { ...options, seed: 8 })).not.toEqual(model)
})

test('the mean probability equals the share of positives', () => {
  const probabilities = predictBoostedTrees(fitBoostedTrees(matrix, exclusiveOr, options), matrix)
  const share = exclusiveOr.reduce((sum, label) => sum + label, 0) / rows
  expect(probabilities.reduce((sum, p) => sum + p, 0) / rows).toBeCloseTo(share, 1)
})
