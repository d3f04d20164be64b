import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { addCounts, binCellCount, binIndex, categoryIndex, emptyCounts, quantileBins, topCategories } from './cells.ts'
import { createRandom } from './random.ts'

const count = (edges: readonly number[], values: readonly (number | undefined)[]) =>
  values.reduce<number[]>(
    (sum, value) => {
      const cell = binIndex(edges, value)
      sum[cell] = (sum[cell] ?? 0) + 1
      return sum
    },
    emptyCounts(binCellCount(edges)),
  )

describe('cells', () => {
  test.each([
    ['two values keep two bins', [0, 0, 0, 1, 0, 1], [0, 1, 1]],
    ['a constant has one', [3, 3, 3], [3, 3]],
    ['few values have a bin each', [1, 2, 3, 1, 2, 3], [1, 2, 3, 3]],
    ['a frequent value stands alone', [0, 0, 0, 0, 0, 0, 1, 2, 3, 4], [0, 1, 4, 4]],
  ])('%s', (_, values, edges) => {
    expect(quantileBins(values, 4)).toEqual(edges)
  })

  test('a continuous feature gets as many bins as asked, of equal shares', () => {
    const random = createRandom(1)
    const values = Array.from({ length: 10_000 }, random.normal)
    const counts = count(quantileBins(values, 10), values)
    expect(counts.slice(0, 10).every((inBin) => Math.abs(inBin - 1000) <= 10)).toBe(true)
    expect(counts.slice(10)).toEqual([0, 0, 0, 0])
  })

  test('values outside, missing and not finite have cells of their own', () => {
    const edges = [0, 1, 2]
    expect([-1, 3, undefined, Number.NaN, Number.POSITIVE_INFINITY].map((v) => binIndex(edges, v))).toEqual([
      2, 3, 4, 5, 5,
    ])
    expect([0, 0.99, 1, 2].map((v) => binIndex(edges, v))).toEqual([0, 0, 1, 1])
  })

  test('every value of the reference falls into a bin, and into the one whose edges hold it', () => {
    const value = fc.oneof(fc.double({ noNaN: true, noDefaultInfinity: true }), fc.integer({ min: -3, max: 3 }))
    fc.assert(
      fc.property(fc.array(value, { minLength: 1 }), fc.integer({ min: 1, max: 20 }), (values, bins) => {
        const edges = quantileBins(values, bins)
        for (const v of values) {
          const cell = binIndex(edges, v)
          expect(cell).toBeLessThan(edges.length - 1)
          expect(v).toBeGreaterThanOrEqual(edges[cell] ?? Number.NaN)
          if (cell < edges.length - 2) expect(v).toBeLessThan(edges[cell + 1] ?? Number.NaN)
        }
      }),
    )
  })

  test('counts of parts add up to the count of the whole, however it is cut', () => {
    fc.assert(
      fc.property(fc.array(fc.double(), { minLength: 2 }), fc.nat(), (values, at) => {
        const edges = [-10, 0, 10]
        const cut = at % values.length
        const sum = addCounts(count(edges, values.slice(0, cut)), count(edges, values.slice(cut)))
        expect(sum).toEqual(count(edges, values))
      }),
    )
  })

  test('categories: the most frequent have cells, others are unseen', () => {
    const categories = topCategories(['b', 'a', 'b', 'c', 'a', 'd'], 2)
    expect(categories).toEqual(['a', 'b'])
    expect(['a', 'b', 'c', '', undefined, null].map(categoryIndex(categories))).toEqual([0, 1, 2, 2, 3, 3])
  })
})
