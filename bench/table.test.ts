import { expect, test } from 'vitest'
import { atLeast, atMost, informs, median } from './benchmark.ts'
import { formatReport } from './table.ts'

test('a report says of each figure what it is, what it should be and whether it is so', () => {
  const rows = [atLeast('speed', 2.9996, 3, '×'), atMost('delay', 0.25, 0.3, 'ms'), informs('calls', 12, '')]
  expect(
    formatReport({
      rows,
      details: [
        ['line', 'calls'],
        ['one', '7'],
      ],
    }),
  ).toBe(
    [
      'line  calls',
      'one       7',
      '',
      'figure  value  unit  target  holds',
      'speed   3.000  ×     ≥ 3     NO',
      'delay   0.250  ms    ≤ 0.3   yes',
      'calls      12',
      '',
    ].join('\n'),
  )
})

test('what could not be measured meets no target', () => {
  expect(atLeast('speed', Number.NaN, 3, '×').holds).toBe(false)
  expect(atMost('delay', Number.NaN, 3, 'ms').holds).toBe(false)
})

test('the median is in the middle', () => {
  expect(median([3, 1, 2])).toBe(2)
  expect(median([4, 1, 2, 3])).toBe(2.5)
  expect(median([])).toBeNaN()
})
