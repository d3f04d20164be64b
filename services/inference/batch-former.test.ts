import { Code } from '@slipway/rpc'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { BatchLimits, FormedBatch } from './batch-former.ts'
import {
  fakeGroup,
  poisson,
  quantile,
  randomNumbers,
  type SimulatedBatch,
  SimulatedServer,
  SimulatedWork,
} from './simulated-server.fixture.ts'
import { wideLimits } from './testing.ts'

// Simulations: whole servers, hours of them, on a clock of their own. Nothing here depends on the machine.

const cost =
  (perRunMs: number, perRowMs: number, noise: () => number = () => 0.5) =>
  ({ rows }: FormedBatch): number =>
    (perRunMs + perRowMs * rows) * (0.85 + 0.3 * noise()) * (noise() > 0.995 ? 4 : 1)

const limits = (change: Partial<BatchLimits> = {}): BatchLimits => ({ ...wideLimits, ...change })

describe('at twice the capacity, with deadlines of 50 ms', () => {
  const overload = (perRunMs: number, perRowMs: number, maxBatchRows: number, forMs: number) => {
    const runMs = cost(perRunMs, perRowMs, randomNumbers(1))
    const server = new SimulatedServer({ limits: limits({ maxBatchRows }), runMs })
    const rows = maxBatchRows
    const capacity = (1000 * rows) / ((perRunMs + perRowMs * rows) * 1.015)
    const work = (nowMs: number) => new SimulatedWork(nowMs, { deadlineMs: nowMs + 50 })
    const works = poisson(server, { perSecond: 2 * capacity, untilMs: forMs, seed: 2, work })
    server.run()
    const good = works.filter(({ latencyMs }) => latencyMs <= 50).length
    return { server, works, goodput: (1000 * good) / forMs / capacity }
  }

  test.each([
    [0.7, 0, 1, 5000],
    [0.05, 0.65, 16, 5000],
    [0.3, 0.005, 64, 300],
  ])(
    '%d ms a run and %d ms a row: nine tenths of the capacity are answered in time',
    (perRunMs, perRowMs, rows, forMs) => {
      const { works, goodput } = overload(perRunMs, perRowMs, rows, forMs)
      expect(goodput).toBeGreaterThan(0.9)
      expect(works.every(({ outcomes }) => outcomes === 1)).toBe(true)
    },
  )

  test('no run begins after a deadline in it, and what is refused is refused at once', () => {
    const { works } = overload(0.7, 0, 1, 2000)
    expect(works.every(({ beganMs = 0, deadlineMs }) => beganMs <= deadlineMs)).toBe(true)
    const codes = new Set(works.flatMap(({ failure }) => failure?.code ?? []))
    expect([...codes].every((code) => code === Code.RESOURCE_EXHAUSTED || code === Code.DEADLINE_EXCEEDED)).toBe(true)
    const shed = works.filter(({ failure }) => failure?.code === Code.RESOURCE_EXHAUSTED)
    expect(shed.length).toBeGreaterThan(works.length * 0.4)
    expect(shed.every(({ failure }) => (failure?.retryAfterMs ?? 0) >= 1)).toBe(true)
  })
})

test('whatever comes, each request ends once, in a batch of its own kind and within the limits', () => {
  const kinds = [fakeGroup(1), fakeGroup(2), fakeGroup(3, false)]
  const request = fc.record({
    afterMs: fc.double({ min: 0, max: 3, noNaN: true }),
    kind: fc.nat({ max: 2 }),
    rows: fc.integer({ min: 0, max: 9 }),
    priority: fc.nat({ max: 12 }),
    deadlineMs: fc.option(fc.double({ min: 0, max: 20, noNaN: true }), { nil: Number.POSITIVE_INFINITY }),
    isCancelled: fc.boolean(),
  })
  const settings = fc.record({
    maxBatchRows: fc.integer({ min: 1, max: 12 }),
    delayMs: fc.constantFrom(undefined, 1, 5),
    preferredBatchRows: fc.constantFrom(undefined, 4),
    latencyObjectiveMs: fc.constantFrom(undefined, 2, 50),
    executors: fc.integer({ min: 1, max: 3 }),
  })
  fc.assert(
    fc.property(fc.array(request, { maxLength: 60 }), settings, (requests, { executors, ...change }) => {
      const server = new SimulatedServer({ limits: limits(change), executors, runMs: cost(0.5, 0.1) })
      const works: SimulatedWork[] = []
      let nowMs = 0
      for (const { afterMs, kind, deadlineMs, isCancelled, ...rest } of requests) {
        nowMs += afterMs
        const work = new SimulatedWork(nowMs, { ...rest, group: kinds[kind] as never, deadlineMs: nowMs + deadlineMs })
        works.push(work)
        server.at(nowMs, () => void server.offer(work))
        if (isCancelled) server.at(nowMs + 0.3, () => (work.isCancelled = true))
      }
      server.run()
      expect(works.every(({ outcomes }) => outcomes === 1)).toBe(true)
      expect(works.every(({ beganMs = 0, deadlineMs }) => beganMs <= deadlineMs)).toBe(true)
      for (const { group, members, rows } of server.batches) {
        expect(members.every((member) => member.group === group)).toBe(true)
        expect(members.length === 1 || (rows <= change.maxBatchRows && group.batchable)).toBe(true)
      }
      expect(server.former.isEmpty).toBe(true)
    }),
    { numRuns: 200 },
  )
})

describe('a latency objective', () => {
  const OBJECTIVE_MS = 20
  /** 0.5 ms a run and 0.05 ms a row: 150 rows in the 8 ms that a run may take. */
  const serve = (
    factor: (nowMs: number) => number,
    onBatch: (batch: SimulatedBatch, nowMs: number) => void = () => {},
  ) => {
    const noise = randomNumbers(7)
    const runMs = (batch: FormedBatch, nowMs: number) => cost(0.5, 0.05, noise)(batch) * factor(nowMs)
    const objective = limits({ maxBatchRows: 1024, latencyObjectiveMs: OBJECTIVE_MS })
    return new SimulatedServer({ limits: objective, runMs, onBatch })
  }
  const load = (server: SimulatedServer, untilMs: number) =>
    poisson(server, { perSecond: 15_000, untilMs, seed: 3, work: (nowMs) => new SimulatedWork(nowMs) })

  test('is met by 99 of 100 requests under load, with batches that are large all the same', () => {
    const server = serve(() => 1)
    const all = load(server, 5000)
    server.run()
    const works = all.filter(({ arrivedMs }) => arrivedMs > 1000)
    expect(
      quantile(
        works.map(({ latencyMs }) => latencyMs),
        0.99,
      ),
    ).toBeLessThan(OBJECTIVE_MS)
    expect(works.every(({ failure }) => failure === undefined)).toBe(true)
  })

  test('bounds batches, and bounds them anew within ten seconds of the model becoming twice as slow', () => {
    // For each request that is answered another one comes, so that batches are always full.
    const again = ({ members }: SimulatedBatch, nowMs: number): void => {
      for (const { rows } of members) server.offer(new SimulatedWork(nowMs, { rows }))
    }
    const server: SimulatedServer = serve((nowMs) => (nowMs < 10_000 ? 1 : 2), again)
    for (let index = 0; index < 300; index++) server.offer(new SimulatedWork(0, { rows: 16 }))
    const took = (fromMs: number, untilMs: number) =>
      server.batches.filter(({ beganMs }) => beganMs >= fromMs && beganMs < untilMs).map(({ tookMs }) => tookMs)
    server.run(20_000)
    const before = quantile(took(5000, 10_000), 0.5)
    expect(before).toBeGreaterThan(OBJECTIVE_MS * 0.2)
    expect(quantile(took(5000, 10_000), 0.95)).toBeLessThan(OBJECTIVE_MS * 0.44)
    expect(quantile(took(10_000, 10_500), 0.5)).toBeGreaterThan(0)
    expect(quantile(took(12_000, 20_000), 0.95)).toBeLessThan(OBJECTIVE_MS * 0.44)
    expect(quantile(took(12_000, 20_000), 0.5)).toBeGreaterThan(OBJECTIVE_MS * 0.2)
  })
})
