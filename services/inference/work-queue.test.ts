import { describe, expect, test } from 'vitest'
import { fakeGroup, SimulatedWork } from './simulated-server.fixture.ts'
import { type TakeLimits, type Work, WorkQueue } from './work-queue.ts'

const limits: TakeLimits = { maxRows: 100, maxBytes: 1000, lessUrgentRows: () => 100 }
const take = (): 'take' => 'take'
const one = fakeGroup(1)
const other = fakeGroup(2)

function fill(queue: WorkQueue, ...works: readonly (readonly [number, Partial<Work>])[]): SimulatedWork[] {
  return works.map(([arrivedMs, change]) => {
    const work = new SimulatedWork(arrivedMs, { group: one, ...change })
    queue.push(work)
    return work
  })
}

describe('a queue', () => {
  test('gives the most urgent first, of equal ones the oldest, and others of its group after them', () => {
    const queue = new WorkQueue()
    const [a, b, c, d] = fill(queue, [1, { priority: 9 }], [2, {}], [3, { priority: 1 }], [4, {}])
    expect(queue.take(limits, take)).toEqual([c, b, d, a])
    expect([queue.rows, queue.requests]).toEqual([0, 0])
  })

  test('lets age count: what has waited long enough goes before what is urgent and new', () => {
    const queue = new WorkQueue(100)
    const [old, fresh] = fill(queue, [0, { priority: 9 }], [801, { priority: 1, group: other }])
    expect(queue.take(limits, take)).toEqual([old])
    expect(queue.take(limits, take)).toEqual([fresh])
  })

  test('gives the aged only their share while urgent ones wait', () => {
    const queue = new WorkQueue(1)
    const old = fill(queue, ...Array.from({ length: 10 }, () => [0, { priority: 9 }] as const))
    const urgent = fill(queue, ...Array.from({ length: 10 }, () => [1000, { priority: 1, group: other }] as const))
    const single = { ...limits, maxRows: 1 }
    const first = Array.from({ length: 11 }, () => queue.take(single, take)[0])
    expect(first).toEqual([old[0], ...urgent.slice(0, 9), old[1]])
  })

  test('fills a batch with less urgent ones only as far as allowed', () => {
    const queue = new WorkQueue()
    const [, , a, b, c] = fill(queue, [0, { priority: 9 }], [0, { priority: 9 }], [1, {}], [1, {}], [1, {}])
    expect(queue.take({ ...limits, lessUrgentRows: (rows) => rows - 3 }, take)).toEqual([a, b, c])
    expect(queue.rows).toBe(2)
  })

  test('counts rows by how urgent they are', () => {
    const queue = new WorkQueue()
    fill(queue, [0, { priority: 9, rows: 50 }], [0, { rows: 5 }], [0, { priority: 1, rows: 2 }])
    expect([1, 4, 8, 9].map((level) => queue.rowsUpTo(level))).toEqual([2, 7, 7, 57])
    queue.take(limits, take)
    expect(queue.rowsUpTo(9)).toBe(0)
  })

  test('tells what would run next, and whether others wait', () => {
    const queue = new WorkQueue()
    expect(queue.lead()).toBeUndefined()
    fill(queue, [5, { rows: 2, deadlineMs: 90 }], [6, { rows: 3, deadlineMs: 70 }])
    expect(queue.lead()).toMatchObject({ group: one, rows: 5, arrivedMs: 5, deadlineMs: 70, hasOthers: false })
    fill(queue, [7, { group: other }])
    expect(queue.lead()).toMatchObject({ hasOthers: true })
  })

  test('drops what its judge drops, and keeps what its judge leaves for the next batch', () => {
    const queue = new WorkQueue()
    const [a, , c] = fill(queue, [0, {}], [1, { rows: 7 }], [2, {}])
    expect(queue.take(limits, ({ rows }) => (rows === 7 ? 'drop' : 'take'))).toEqual([a, c])
    const [d, e] = fill(queue, [3, {}], [4, { rows: 7 }])
    expect(queue.take(limits, ({ rows }) => (rows === 7 ? 'close' : 'take'))).toEqual([d])
    expect(queue.takeAll()).toEqual([e])
    expect([queue.rows, queue.requests, queue.rowsUpTo(9)]).toEqual([0, 0, 0])
  })

  test('stays in order and as small as what waits, however much goes through it', () => {
    const queue = new WorkQueue()
    const pushed: Work[] = []
    const taken: Work[] = []
    for (let round = 0; round < 300; round++) {
      pushed.push(...fill(queue, ...Array.from({ length: 13 }, (_, index) => [round * 13 + index, {}] as const)))
      taken.push(...queue.take({ ...limits, maxRows: 12 }, take))
    }
    taken.push(...queue.takeAll())
    expect(taken).toEqual(pushed)
  })
})
