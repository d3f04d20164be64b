import { describe, expect, test } from 'vitest'
import type { FormedBatch } from './batch-former.ts'
import { AGED_SHARE, AgedShare, DEFAULT_LEVEL, lessUrgentRows, levelOf, politeRows, rankOf } from './priorities.ts'
import { poisson, quantile, randomNumbers, SimulatedServer, SimulatedWork } from './simulated-server.fixture.ts'
import { wideLimits } from './testing.ts'

test.each([
  [0, DEFAULT_LEVEL],
  [1, 1],
  [4, 4],
  [9, 9],
  [10, 9],
  [2 ** 31 - 1, 9],
])('priority %d is level %d', (priority, level) => expect(levelOf(priority)).toBe(level))

test('a request that has waited as long as levels lie between counts like one that is new', () => {
  expect(rankOf(1, 5000, 1000)).toBe(rankOf(4, 2000, 1000))
  expect(rankOf(1, 5000, 1000)).toBeLessThan(rankOf(4, 2001, 1000))
})

test('of the rows that run while both wait, older requests get their share and no more', () => {
  const share = new AgedShare()
  let aged = 0
  for (let batch = 0; batch < 10_000; batch++) {
    const isAged = share.isOpen
    share.took(20, isAged)
    if (isAged) aged++
  }
  expect(aged / 10_000).toBeCloseTo(AGED_SHARE, 2)
})

test('less urgent requests make a batch a tenth slower at most, or hold up the next one by one more run', () => {
  expect(lessUrgentRows({ fixedMs: 0.3, perRowMs: 0.005 }, 12)).toBe(7)
  expect(lessUrgentRows({ fixedMs: 1, perRowMs: 0 }, 10)).toBe(Number.POSITIVE_INFINITY)
  expect(politeRows({ fixedMs: 0.3, perRowMs: 0.005 })).toBe(62)
  expect(politeRows({ fixedMs: 0, perRowMs: 1 })).toBe(2)
})

describe('a flood of unimportant requests', () => {
  const RUN_MS = 0.3
  const ROW_MS = 0.005
  const UNTIL_MS = 4000
  const runMs = (noise: () => number) => (batch: FormedBatch) => (RUN_MS + ROW_MS * batch.rows) * (0.9 + 0.2 * noise())
  const serve = (isFlooded: boolean, urgentPerSecond: number) => {
    const server = new SimulatedServer({
      limits: { ...wideLimits, maxQueueWaitMs: 1000 },
      runMs: runMs(randomNumbers(1)),
    })
    const important = poisson(server, {
      perSecond: urgentPerSecond,
      untilMs: UNTIL_MS,
      seed: 2,
      work: (nowMs) => new SimulatedWork(nowMs, { priority: 1 }),
    })
    // Chunks of a job, three times what the server could do at its best.
    const flood = isFlooded
      ? poisson(server, {
          perSecond: 4000,
          untilMs: UNTIL_MS,
          seed: 3,
          work: (nowMs) => new SimulatedWork(nowMs, { priority: 9, rows: 128 }),
        })
      : []
    server.run()
    const latencies = important.map(({ latencyMs }) => latencyMs)
    return { important, flood, p99: quantile(latencies, 0.99), p50: quantile(latencies, 0.5) }
  }

  test('adds to the p99 of important ones no more than the one run that nobody can call back, and a tenth', () => {
    const alone = serve(false, 2500)
    const flooded = serve(true, 2500)
    const longestRun = (RUN_MS + ROW_MS * 128) * 1.1
    expect(flooded.p99).toBeLessThan(alone.p99 * 1.1 + longestRun)
    expect(flooded.important.every(({ failure }) => failure === undefined)).toBe(true)
  })

  test('is not starved by them: each of its requests that was taken is answered, however many important ones come', () => {
    // Unimportant work begins to count as urgent after eight seconds; the share of the aged is what is left to it then.
    const server = new SimulatedServer({
      limits: { ...wideLimits, maxBatchRows: 2 },
      runMs: runMs(randomNumbers(4)),
    })
    const background = Array.from({ length: 50 }, () => new SimulatedWork(100, { priority: 9 }))
    server.at(100, () => {
      for (const work of background) server.offer(work)
    })
    // More important work than can be done.
    poisson(server, {
      perSecond: 8000,
      untilMs: 9000,
      seed: 5,
      work: (nowMs) => new SimulatedWork(nowMs, { priority: 1, deadlineMs: nowMs + 20 }),
    })
    server.run(9000)
    const answered = background.flatMap(({ answeredMs }) => answeredMs ?? [])
    expect(answered).toHaveLength(50)
    expect(Math.min(...answered)).toBeGreaterThan(1000)
  })
})
