import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { allocate, BUCKET_COUNT, type BucketRange, bucketOf, bucketTable, type Share } from './assignment.ts'

const share = (name: string, weight: number, buckets: readonly BucketRange[] = []): Share => ({ name, weight, buckets })

function bucketsOf(variant: Share | undefined): Set<number> {
  const held = new Set<number>()
  for (const range of variant?.buckets ?? [])
    for (let bucket = range.start; bucket < range.end; bucket++) held.add(bucket)
  return held
}

/** Weights of up to five variants that add up to 10,000. */
const weights = fc.array(fc.integer({ min: 0, max: BUCKET_COUNT }), { minLength: 0, maxLength: 4 }).map((cuts) => {
  const ends = [...cuts.toSorted((a, b) => a - b), BUCKET_COUNT]
  return ends.map((end, index) => end - (ends[index - 1] ?? 0))
})

describe('allocate', () => {
  test('every bucket has exactly one variant, and each variant as many as its weight, through any changes', () => {
    fc.assert(
      fc.property(fc.array(weights, { minLength: 1, maxLength: 8 }), (steps) => {
        let shares: Share[] = []
        for (const step of steps) {
          shares = allocate(step.map((weight, index) => share(`v${index}`, weight, shares[index]?.buckets)))
          const all = shares.map(bucketsOf)
          expect(all.map((held) => held.size)).toEqual(step)
          expect(new Set(all.flatMap((held) => [...held])).size).toBe(BUCKET_COUNT)
        }
      }),
    )
  })

  test('a variant that grows or stays loses no bucket, whatever the others do', () => {
    fc.assert(
      fc.property(weights, weights, (before, after) => {
        const first = allocate(before.map((weight, index) => share(`v${index}`, weight)))
        const second = allocate(after.map((weight, index) => share(`v${index}`, weight, first[index]?.buckets)))
        for (const [index, weight] of after.entries()) {
          if (weight < (before[index] ?? 0)) continue
          expect(bucketsOf(first[index]).isSubsetOf(bucketsOf(second[index]))).toBe(true)
        }
      }),
    )
  })

  test('a variant that shrinks keeps only buckets that it had', () => {
    fc.assert(
      fc.property(weights, weights, (before, after) => {
        const first = allocate(before.map((weight, index) => share(`v${index}`, weight)))
        const second = allocate(after.map((weight, index) => share(`v${index}`, weight, first[index]?.buckets)))
        for (const [index, weight] of after.entries()) {
          if (weight > (before[index] ?? 0)) continue
          expect(bucketsOf(second[index]).isSubsetOf(bucketsOf(first[index]))).toBe(true)
        }
      }),
    )
  })

  test('5 % to 10 % and back to 5 % ends with the same callers in the canary', () => {
    const five = allocate([share('champion', 9500), share('canary', 500)])
    const ten = allocate([share('champion', 9000, five[0]?.buckets), share('canary', 1000, five[1]?.buckets)])
    const back = allocate([share('champion', 9500, ten[0]?.buckets), share('canary', 500, ten[1]?.buckets)])
    expect(bucketsOf(back[1])).toEqual(bucketsOf(five[1]))
  })

  test('weights that do not add up are refused', () => {
    expect(() => allocate([share('champion', 9000)])).toThrow('weights add up to 9000')
  })
})

describe('bucketOf', () => {
  test('the same key and salt give the same bucket, and buckets are spread evenly', () => {
    const counts = new Array<number>(100).fill(0)
    const keys = 100_000
    for (let index = 0; index < keys; index++) {
      const bucket = bucketOf(`caller-${index}`, 'flight-delay')
      expect(bucketOf(`caller-${index}`, 'flight-delay')).toBe(bucket)
      counts[Math.floor(bucket / 100)] = (counts[Math.floor(bucket / 100)] ?? 0) + 1
    }
    const expected = keys / 100
    const chiSquare = counts.reduce((sum, seen) => sum + (seen - expected) ** 2 / expected, 0)
    expect(chiSquare).toBeLessThan(173) // 99.9999 % quantile with 99 degrees of freedom
  })

  test('two salts split the same callers independently', () => {
    const table = [0, 0, 0, 0]
    const keys = 40_000
    for (let index = 0; index < keys; index++) {
      const one = bucketOf(`caller-${index}`, 'a') < BUCKET_COUNT / 2 ? 0 : 1
      const other = bucketOf(`caller-${index}`, 'b') < BUCKET_COUNT / 2 ? 0 : 1
      table[2 * one + other] = (table[2 * one + other] ?? 0) + 1
    }
    const chiSquare = table.reduce((sum, seen) => sum + (seen - keys / 4) ** 2 / (keys / 4), 0)
    expect(chiSquare).toBeLessThan(31) // 99.9999 % quantile with 3 degrees of freedom
  })
})

describe('bucketTable', () => {
  test('names for every bucket the variant that holds it', () => {
    const shares = allocate([share('a', 2500), share('b', 7500)])
    const table = bucketTable(shares)
    for (const [index, variant] of shares.entries()) {
      for (const bucket of bucketsOf(variant)) expect(table[bucket]).toBe(index)
    }
  })
})
