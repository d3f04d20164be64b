import { expect, test } from 'vitest'
import { LatencyModel } from './latency-model.ts'

test('nothing is predicted before anything was seen', () => {
  expect(new LatencyModel().isKnown).toBe(false)
  expect(new LatencyModel().predict(100)).toBe(0)
})

test('a fixed and a per-row part are told apart', () => {
  const model = new LatencyModel()
  for (let index = 0; index < 200; index++) model.observe(1 + (index % 32), 0.3 + 0.005 * (1 + (index % 32)))
  expect(model.predict(1)).toBeCloseTo(0.305, 3)
  expect(model.predict(100)).toBeCloseTo(0.8, 3)
})

test('batches of one size predict that size, and not less for a larger one', () => {
  const model = new LatencyModel()
  for (let index = 0; index < 50; index++) model.observe(8, 2)
  expect(model.predict(8)).toBeCloseTo(2, 6)
  expect(model.predict(80)).toBeGreaterThanOrEqual(2)
})

test('a machine that becomes twice as slow is known after a hundred batches', () => {
  const model = new LatencyModel()
  for (let index = 0; index < 500; index++) model.observe(1 + (index % 8), 1)
  for (let index = 0; index < 100; index++) model.observe(1 + (index % 8), 2)
  expect(model.predict(4)).toBeGreaterThan(1.9)
})

test('doubt lowers the prediction until work is let through', () => {
  const model = new LatencyModel()
  model.observe(1, 1000)
  for (let index = 0; index < 100; index++) model.doubt()
  expect(model.predict(1)).toBeLessThan(10)
})
