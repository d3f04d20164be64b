import { expect, test } from 'vitest'
import { createLatencyRecorder } from './latency.ts'

test('quantiles are within the width of a bucket', () => {
  const recorder = createLatencyRecorder()
  for (let i = 1; i <= 1000; i++) recorder.record(i / 10)
  for (const share of [0.5, 0.9, 0.99]) {
    expect(recorder.quantileMs(share) / (share * 100)).toBeGreaterThan(0.999)
    expect(recorder.quantileMs(share) / (share * 100)).toBeLessThan(1.021)
  }
})

test('without a call there is no latency', () => {
  expect(createLatencyRecorder().quantileMs(0.99)).toBe(0)
})
