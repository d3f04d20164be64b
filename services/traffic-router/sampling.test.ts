import { describe, expect, test } from 'vitest'
import { isSampled } from './sampling.ts'

const ids = Array.from({ length: 20_000 }, (_, index) => `prediction-${index}`)

describe('isSampled', () => {
  test('the share sampled is the rate, within six standard deviations', () => {
    for (const rate of [0.01, 0.25, 0.9]) {
      const seen = ids.filter((id) => isSampled(id, rate)).length
      expect(Math.abs(seen - rate * ids.length)).toBeLessThan(6 * Math.sqrt(ids.length * rate * (1 - rate)))
    }
  })

  test('a smaller sample lies inside a larger one', () => {
    for (const id of ids) if (isSampled(id, 0.1)) expect(isSampled(id, 0.3)).toBe(true)
  })

  test('rate 1 takes all, 0 and NaN take none', () => {
    for (const id of ids.slice(0, 100)) {
      expect(isSampled(id, 1)).toBe(true)
      expect(isSampled(id, 0)).toBe(false)
      expect(isSampled(id, Number.NaN)).toBe(false)
    }
  })
})
