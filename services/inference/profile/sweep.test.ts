import { describe, expect, test } from 'vitest'
import { isPareto, type Outcome, planSweep, recommend } from './sweep.ts'

const none = { executors: [], intraOpThreads: [], maxBatchRows: [], concurrency: [] }
const setting = { executors: 1, intraOpThreads: 1, maxBatchRows: 16 }
const base: Outcome = {
  setting,
  concurrency: 8,
  requestsPerSecond: 100,
  rowsPerSecond: 100,
  p50Ms: 1,
  p99Ms: 5,
  memoryBytes: 100,
  cpuMicrosPerRow: 10,
  meanBatchRows: 1,
  failed: 0,
}
const outcome = (change: Partial<Outcome>): Outcome => ({ ...base, ...change })

describe('what is tried', () => {
  test('are all combinations, those of one setting after another, and none that needs more threads than there are', () => {
    const trials = planSweep(
      { executors: [1, 2], intraOpThreads: [1, 2], maxBatchRows: [1, 8], concurrency: [1, 4] },
      2,
    )
    const settings = trials.map(({ setting: { executors, intraOpThreads, maxBatchRows }, concurrency }) =>
      [executors, intraOpThreads, maxBatchRows, concurrency].join(' '),
    )
    expect(settings).toEqual([
      ...['1 1 1 1', '1 1 1 4', '1 1 8 1', '1 1 8 4'],
      ...['1 2 1 1', '1 2 1 4', '1 2 8 1', '1 2 8 4'],
      ...['2 1 1 1', '2 1 1 4', '2 1 8 1', '2 1 8 4'],
    ])
    expect(trials[0]?.setting).toBe(trials[1]?.setting)
  })

  test('is chosen for the machine where nothing is said, and nothing twice', () => {
    expect(planSweep(none, 1)).toHaveLength(9)
    expect(planSweep(none, 4).map(({ setting: { executors } }) => executors)).toContain(4)
    expect(planSweep({ ...none, executors: [1, 1], concurrency: [2, 2] }, 1)).toHaveLength(3)
  })

  test('is nothing when all needs too many threads', () => {
    expect(planSweep({ ...none, executors: [3] }, 2)).toEqual([])
  })
})

describe('an outcome is on the front', () => {
  test.each<[string, Partial<Outcome>, boolean]>([
    ['when nothing is better', {}, true],
    ['when another has more rows at a larger p99', { rowsPerSecond: 200, p99Ms: 6 }, true],
    ['when another has more rows with more memory', { rowsPerSecond: 200, memoryBytes: 101 }, true],
    ['but not when another has more rows', { rowsPerSecond: 200 }, false],
    ['but not when another has a smaller p99', { p99Ms: 4 }, false],
    ['but not when another holds less memory', { memoryBytes: 99 }, false],
    ['when the better one failed', { rowsPerSecond: 200, failed: 1 }, true],
  ])('%s', (_, other, expected) => {
    expect(isPareto(base, [base, outcome(other)])).toBe(expected)
  })

  test('never when it failed', () => {
    const failed = outcome({ failed: 1 })
    expect(isPareto(failed, [failed])).toBe(false)
  })
})

describe('what is recommended', () => {
  const two = { ...setting, executors: 2 }
  const all = [
    outcome({ rowsPerSecond: 100, p99Ms: 5 }),
    outcome({ setting: two, rowsPerSecond: 180, p99Ms: 4, memoryBytes: 200 }),
    outcome({ setting: { ...two, maxBatchRows: 256 }, rowsPerSecond: 400, p99Ms: 20, memoryBytes: 200 }),
  ]
  const open = { p99Ms: undefined, rowsPerSecond: undefined, memoryBytes: undefined }

  test('without an objective is what gives the most rows', () => {
    expect(recommend(all, open)).toEqual({ ...two, maxBatchRows: 256 })
  })

  test('with one is what meets it with the fewest threads', () => {
    expect(recommend(all, { ...open, rowsPerSecond: 90, p99Ms: 5 })).toEqual(setting)
    expect(recommend(all, { ...open, rowsPerSecond: 150, p99Ms: 5 })).toEqual(two)
    expect(recommend(all, { ...open, rowsPerSecond: 300 })).toEqual({ ...two, maxBatchRows: 256 })
    expect(recommend(all, { ...open, memoryBytes: 150 })).toEqual(setting)
  })

  test('of settings with as many threads is the one that costs less processor time', () => {
    const cheap = { ...setting, maxBatchRows: 64 }
    const both = [base, outcome({ setting: cheap, rowsPerSecond: 98, cpuMicrosPerRow: 3 })]
    expect(recommend(both, open)).toEqual(cheap)
    expect(recommend([base, outcome({ setting: cheap, rowsPerSecond: 90, cpuMicrosPerRow: 3 })], open)).toEqual(setting)
  })

  test('is nothing when nothing meets it', () => {
    expect(recommend(all, { ...open, p99Ms: 1 })).toBeUndefined()
    expect(recommend([outcome({ failed: 1 })], open)).toBeUndefined()
  })
})
