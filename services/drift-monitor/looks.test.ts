import { describe, expect, test } from 'vitest'
import { dueLooks, watermarkHour } from './looks.ts'

const rows = (partition: number, ...hours: (readonly [hour: number, rows: number, batch?: number])[]) =>
  hours.map(([hour, count, batch = 0]) => ({ partition, hour, rows: count, batch }))

describe('watermark', () => {
  test.each([
    ['nothing has come', [], undefined],
    ['too few rows to tell', rows(0, [10, 2]), undefined],
    ['the last hour with rows', rows(0, [9, 50], [10, 3]), 10],
    ['one row far ahead moves nothing', rows(0, [10, 50], [900, 1]), 10],
    ['the slower of two partitions', [...rows(0, [10, 9]), ...rows(1, [7, 9])], 7],
    ['a partition that waits for its turn is waited for', [...rows(0, [40, 9, 5]), ...rows(1, [7, 9, 4])], 7],
    ['one that had nothing for a day and many batches is not', [...rows(0, [40, 9, 50]), ...rows(1, [7, 9, 4])], 40],
    ['one that had nothing for many batches is, within a day', [...rows(0, [20, 9, 50]), ...rows(1, [7, 9, 4])], 7],
  ])('%s', (_, arrivals, wanted) => {
    expect(watermarkHour(arrivals)).toBe(wanted)
    expect(watermarkHour(arrivals.toReversed())).toBe(wanted)
  })
})

describe('due looks', () => {
  test.each([
    ['before the first rows there is none', undefined, undefined, []],
    ['the first is the first whole block after the first row, an hour of grace later', undefined, 7, [6]],
    ['nothing new within a block', 6, 9, []],
    ['the grace has passed', 6, 10, [9]],
    ['several blocks at once', 6, 17, [9, 12, 15]],
  ])('%s', (_, after, watermark, wanted) => {
    expect(dueLooks(after, watermark, 4, 3)).toEqual(wanted)
  })

  test('after a jump in time only the newest are taken', () => {
    const looks = dueLooks(6, 100_000, 4, 3)
    expect(looks).toHaveLength(64)
    expect(looks.at(-1)).toBe(99_999)
  })
})
