import { array, assert, constantFrom, integer, property, record } from 'fast-check'
import { expect, test } from 'vitest'
import { ThreadBudget } from './thread-budget.ts'

/** Somebody with batches to run, one at a time, who notes each that begins. */
function worker(budget: ThreadBudget, name: string, threads: number, begun: string[]) {
  let batches = 0
  let isRunning = false
  const begin = (): void => {
    if (isRunning || batches === 0 || !budget.take(threads, begin)) return
    batches--
    isRunning = true
    begun.push(name)
  }
  return {
    offer(count: number): void {
      batches += count
      begin()
    },
    end(): void {
      if (!isRunning) return
      isRunning = false
      budget.give(threads)
      begin()
    },
    get isRunning() {
      return isRunning
    },
    get waits() {
      return batches > 0 && !isRunning
    },
    threads,
  }
}

test('a version that always has work does not starve another', () => {
  const budget = new ThreadBudget(1)
  const begun: string[] = []
  const busy = worker(budget, 'busy', 1, begun)
  const quiet = worker(budget, 'quiet', 1, begun)
  busy.offer(1000)
  for (let round = 0; round < 10; round++) {
    quiet.offer(1)
    expect(budget.isContended).toBe(true)
    busy.end()
    quiet.end()
  }
  expect(begun.join(' ')).toBe(`busy${' quiet busy'.repeat(10)}`)
})

test('one who needs all threads is not passed by those who need one', () => {
  const budget = new ThreadBudget(2)
  const begun: string[] = []
  const [first, second, third] = ['first', 'second', 'third'].map((name) => worker(budget, name, 1, begun))
  const large = worker(budget, 'large', 2, begun)
  first?.offer(5)
  second?.offer(5)
  large.offer(1)
  third?.offer(1)
  first?.end()
  second?.end()
  expect(begun).toEqual(['first', 'second', 'large'])
  large.end()
  expect(begun.slice(3)).toEqual(['third', 'first'])
})

test('one who has nothing to run any more leaves its turn to the next', () => {
  const budget = new ThreadBudget(1)
  const begun: string[] = []
  expect(budget.take(1, () => {})).toBe(true)
  expect(budget.take(1, () => begun.push('gone'))).toBe(false)
  worker(budget, 'waits', 1, begun).offer(1)
  budget.give(1)
  expect(begun).toEqual(['gone', 'waits'])
})

test('a share larger than the whole is the whole', () => {
  const budget = new ThreadBudget(2)
  expect(budget.take(8, () => {})).toBe(true)
  expect(budget.take(1, () => {})).toBe(false)
  budget.give(8)
  expect(budget.take(2, () => {})).toBe(true)
})

test('whatever comes and goes, no more threads are taken than there are, and none lies idle that the first in line could use', () => {
  const action = { who: integer({ min: 0, max: 3 }), what: constantFrom('offer', 'end') }
  assert(
    property(
      integer({ min: 1, max: 4 }),
      array(integer({ min: 1, max: 5 }), { minLength: 4, maxLength: 4 }),
      array(record(action), { maxLength: 60 }),
      (total, shares, actions) => {
        const budget = new ThreadBudget(total)
        const workers = shares.map((share, index) => worker(budget, String(index), share, []))
        for (const { who, what } of actions) {
          if (what === 'offer') workers[who]?.offer(1)
          else workers[who]?.end()
          const taken = workers.reduce((sum, one) => sum + (one.isRunning ? Math.min(one.threads, total) : 0), 0)
          expect(taken).toBeLessThanOrEqual(total)
          const waiting = workers.filter((one) => one.waits)
          const least = Math.max(...waiting.map((one) => Math.min(one.threads, total)))
          if (waiting.length > 0) expect(total - taken).toBeLessThan(least)
        }
        for (let round = 0; round < 100; round++) for (const one of workers) one.end()
        expect(workers.some((one) => one.waits || one.isRunning)).toBe(false)
      },
    ),
  )
})
