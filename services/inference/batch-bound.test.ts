import { describe, expect, test } from 'vitest'
import { BatchBound, RUN_SHARE, rowsThatPay } from './batch-bound.ts'
import { GroupLatency } from './group-latency.ts'
import { LatencyModel } from './latency-model.ts'
import { fakeGroup } from './simulated-server.fixture.ts'

const learned = (fixedMs: number, perRowMs: number): LatencyModel => {
  const latency = new LatencyModel()
  for (let rows = 1; rows <= 64; rows++) latency.observe(rows, fixedMs + perRowMs * rows)
  return latency
}

describe('a bound', () => {
  test.each([
    [Number.POSITIVE_INFINITY, 0.3, 0.005, 256, 'none without an objective'],
    [1.01, 0.3, 0.005, 20, 'the rows that fit into the share of the objective that a run has'],
    [1000, 0.3, 0.005, 256, 'what is set where more would fit'],
    [1, 0.6, 0.005, 1, 'one row where none fits'],
  ])('for %d ms, a run of %d ms and %d ms a row, is %d: %s', (objectiveMs, fixedMs, perRowMs, rows) => {
    expect(new BatchBound({ maxRows: 256, objectiveMs }).rows(learned(fixedMs, perRowMs))).toBe(rows)
  })

  test('falls with runs that took too long, though the model says otherwise, and rises again when they no longer do', () => {
    const latency = learned(0.3, 0.005)
    const bound = new BatchBound({ maxRows: 256, objectiveMs: 1.01 })
    for (let run = 0; run < 5; run++) bound.observe(20, RUN_SHARE + 0.1, latency)
    expect(bound.rows(latency)).toBe(12)
    for (let run = 0; run < 1000; run++) bound.observe(bound.rows(latency), 0.35, latency)
    expect(bound.rows(latency)).toBe(20)
  })

  test('does not fall below a row', () => {
    const latency = learned(3, 0.1)
    const bound = new BatchBound({ maxRows: 256, objectiveMs: 1 })
    for (let run = 0; run < 1000; run++) bound.observe(50, 100, latency)
    expect(bound.rows(latency)).toBe(1)
  })
})

test.each([
  [0.3, 0.005, 0.1, 1600],
  [0.01, 0.7, 0.09, 16],
  [5, 0, 0.1, Number.POSITIVE_INFINITY],
])(
  'with %d ms a run, %d ms a row and %d ms around it, more than %d rows do not pay',
  (fixedMs, perRowMs, overheadMs, rows) => {
    expect(rowsThatPay({ fixedMs, perRowMs }, overheadMs)).toBe(rows)
  },
)

test('groups are learned apart, and a new one is taken to be like the others', () => {
  const latency = new GroupLatency({ maxRows: 256, objectiveMs: Number.POSITIVE_INFINITY })
  const [short, long, fresh] = [fakeGroup(1), fakeGroup(2), fakeGroup(3)]
  for (let rows = 1; rows <= 32; rows++) {
    latency.observe(short, rows, 1, { sinceMs: 1.1, isBehind: true })
    latency.observe(long, rows, 9, { sinceMs: 9.5, isBehind: false })
  }
  expect([short, long, fresh].map((group) => Math.round(latency.predict(group, 8)))).toEqual([1, 9, 5])
  expect(latency.overheadMs).toBeCloseTo(0.4, 1)
  expect(latency.gapMs).toBeGreaterThan(0.1)
  expect(latency.gapMs).toBeLessThan(0.4)
  latency.forget()
  expect(latency.predict(long, 8)).toBe(0)
})

test('a batch far larger than all that were seen is not taken to be slow for that', () => {
  const latency = learned(0.1, 0.5)
  expect(latency.predict(256)).toBeCloseTo(128.1, 1)
  expect(latency.predict(300_000)).toBe(latency.predict(256))
})
