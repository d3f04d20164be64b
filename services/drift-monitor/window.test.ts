import { describe, expect, test } from 'vitest'
import { windowCounts } from './window.ts'

const range = { startHour: 0, endHour: 6, cellCount: 2 }
const pane = (hour: number, counts: [number, number], samplingRate = 1) => ({
  hour,
  samplingRate,
  rows: counts[0] + counts[1],
  counts,
})

describe('window', () => {
  test('a version with all the traffic keeps its counts', () => {
    const panes = [pane(0, [10, 0]), pane(4, [5, 15]), pane(7, [99, 99])]
    const traffic = [
      { hour: 0, weight: 10 },
      { hour: 4, weight: 20 },
    ]
    expect(windowCounts(panes, traffic, range)).toEqual({
      rows: 30,
      counts: [15, 15],
      weighted: [15, 15],
      effectiveRows: 30,
      uncovered: 0,
    })
  })

  test('rows that crowd in the hours after a step of a rollout are weighted to the hours of the whole traffic', () => {
    const panes = [pane(1, [30, 0]), pane(4, [0, 90])]
    const traffic = [
      { hour: 1, weight: 100 },
      { hour: 4, weight: 100 },
    ]
    const { weighted, effectiveRows, uncovered } = windowCounts(panes, traffic, range)
    expect(weighted[0]).toBeCloseTo(weighted[1] ?? 0, 10)
    expect(effectiveRows).toBeCloseTo(90, 10)
    expect(uncovered).toBe(0)
  })

  test('hours in which the version answered next to nothing are told, and their rows have no weight', () => {
    const traffic = [
      { hour: 1, weight: 30 },
      { hour: 4, weight: 70 },
    ]
    const { uncovered, weighted } = windowCounts([pane(1, [2, 0]), pane(4, [0, 70])], traffic, range)
    expect(uncovered).toBeCloseTo(0.3, 12)
    expect(weighted).toEqual([0, 70])
    expect(windowCounts([], traffic, range)).toMatchObject({ uncovered: 1, rows: 0, effectiveRows: 0 })
  })

  test('a sampling rate that changes in mid-stream moves no share, it only costs effective rows', () => {
    const panes = [pane(0, [600, 400]), pane(4, [6, 4], 0.01)]
    const traffic = [
      { hour: 0, weight: 1000 },
      { hour: 4, weight: 1000 },
    ]
    const { weighted, effectiveRows } = windowCounts(panes, traffic, range)
    expect((weighted[0] ?? 0) / effectiveRows).toBeCloseTo(0.6, 10)
    expect(effectiveRows).toBeLessThan(45)
  })
})
