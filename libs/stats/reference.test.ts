import { describe, expect, test } from 'vitest'
import { categoricalReference, numericReference, totalCounts } from './reference.ts'

const day = 86_400_000_000n

describe('reference', () => {
  test('rows are counted by the day of their time, before 1970 too, in order of time', () => {
    const reference = numericReference([1, 2, 3, undefined, Number.NaN], [day, 0n, -1n, day + 5n, 2n * day - 1n], {
      bins: 3,
    })
    expect(reference.cells).toEqual({ edges: [1, 2, 3, 3] })
    expect(reference.windows).toEqual([
      { startMicros: -day, lengthMicros: day, counts: [0, 0, 1, 0, 0, 0, 0] },
      { startMicros: 0n, lengthMicros: day, counts: [0, 1, 0, 0, 0, 0, 0] },
      { startMicros: day, lengthMicros: day, counts: [1, 0, 0, 0, 0, 1, 1] },
    ])
    expect(reference.mean).toBe(2)
    expect(totalCounts(reference.windows, 7)).toEqual([1, 1, 1, 0, 0, 1, 1])
  })

  test('categories beyond the limit are unseen', () => {
    const reference = categoricalReference(['a', 'a', 'b', null], [0n, 0n, 0n, 0n], { categoriesMax: 1 })
    expect(reference.cells).toEqual({ categories: ['a'] })
    expect(reference.windows[0]?.counts).toEqual([2, 1, 1])
  })
})
