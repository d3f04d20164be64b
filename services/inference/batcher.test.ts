import { Code, type Failure } from '@slipway/rpc'
import { describe, expect, test } from 'vitest'
import { Batcher, type BatcherOptions, type BatchLimits, type WorkBatch } from './batcher.ts'
import type { Batch, BatchResult, Executor } from './executors/executor.ts'
import { refusal } from './refusals.ts'
import { wideLimits } from './testing.ts'
import { ThreadBudget } from './thread-budget.ts'
import type { Group, Work } from './work-queue.ts'

const group = (id: number, batchable = true): Group => ({
  id,
  batchable,
  inputs: [{ name: 'x', datatype: 'UINT8', dims: [-1] }],
  outputs: ['y'],
  outputDatatypes: ['UINT8'],
})
const rows = group(1)

class FakeWork implements Work {
  readonly bytes = Buffer.alloc(1)
  readonly offsets = [0, 1]
  readonly arrivedMs = performance.now()
  readonly priority = 0
  readonly trace = undefined
  readonly group: Group
  readonly rows: number
  readonly deadlineMs: number
  readonly name: string
  isCancelled = false
  #onCancel = (): void => {}
  outcome: 'waiting' | 'answered' | Failure = 'waiting'

  constructor(name: string, change: Partial<Pick<Work, 'group' | 'rows' | 'deadlineMs'>> = {}) {
    this.name = name
    this.group = change.group ?? rows
    this.rows = change.rows ?? 1
    this.deadlineMs = change.deadlineMs ?? Number.POSITIVE_INFINITY
  }

  onCancel(listener: () => void): void {
    this.#onCancel = listener
  }

  cancel(): void {
    this.isCancelled = true
    this.#onCancel()
  }

  answer(): void {
    this.outcome = 'answered'
  }

  fail(failure: Failure): void {
    this.outcome = failure
  }
}

/** Runs nothing: remembers what it was given, until the test says how it ended. */
class FakeExecutor implements Executor {
  readonly slots = 2
  readonly memoryBytes = 0
  readonly batches: WorkBatch[] = []
  readonly ran: string[][] = []

  get running(): number {
    return this.batches.length
  }

  run(batch: Batch): void {
    this.batches.push(batch as WorkBatch)
    this.ran.push(batch.members.map((member) => (member as unknown as FakeWork).name))
  }

  readonly withdrawn: Batch[] = []

  withdraw(batch: Batch): void {
    this.withdrawn.push(batch)
  }

  async close(): Promise<void> {}
}

const result: BatchResult = { outputs: [], computeMicros: 1000 }
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

function setUp(limits: Partial<BatchLimits> = {}, answers = true, onFailed: BatcherOptions['onFailed'] = undefined) {
  const budget = new ThreadBudget(1)
  const batcher = new Batcher({
    model: 'm',
    version: '1',
    limits: { ...wideLimits, ...limits },
    budget,
    threadsPerRun: 1,
    onFailed,
    answer: ({ members }) => {
      if (!answers && members.length > 1) return false
      for (const member of members) (member as FakeWork).answer()
      return true
    },
  })
  const executor = new FakeExecutor()
  batcher.attach(executor)
  const done = (): void => {
    const batch = executor.batches.shift()
    if (batch) batcher.done(executor, batch, result)
  }
  const failed = (): void => {
    const batch = executor.batches.shift()
    if (batch) batcher.failed(executor, batch, 'a text\nwith a trace')
  }
  const offer = (...names: string[]): FakeWork[] =>
    names.map((name) => {
      const work = new FakeWork(name)
      batcher.offer(work)
      return work
    })
  return { batcher, executor, budget, done, failed, offer }
}

const code = ({ outcome }: FakeWork) => (typeof outcome === 'string' ? outcome : outcome.code)

describe('a batcher', () => {
  test('runs together what arrived in one turn, at once when the executor is idle', async () => {
    const { executor, offer } = setUp()
    offer('a', 'b', 'c')
    await turn()
    expect(executor.ran).toEqual([['a', 'b', 'c']])
  })

  test('gathers while a batch runs, and hands over what waits when it ends', async () => {
    const { executor, offer, done } = setUp()
    const [a] = offer('a')
    await turn()
    const [b] = offer('b', 'c')
    await turn()
    expect(executor.ran).toEqual([['a']])
    done()
    expect(executor.ran).toEqual([['a'], ['b', 'c']])
    expect([a?.outcome, b?.outcome]).toEqual(['answered', 'waiting'])
  })

  test('fills batches up to the limit of rows, a larger request goes alone', async () => {
    const { batcher, executor, done } = setUp({ maxBatchRows: 4 })
    for (const [name, count] of [
      ['a', 3],
      ['b', 2],
      ['c', 2],
      ['d', 9],
      ['e', 1],
    ] as const) {
      batcher.offer(new FakeWork(name, { rows: count }))
    }
    await turn()
    for (let index = 0; index < 5; index++) done()
    expect(executor.ran).toEqual([['a'], ['b', 'c'], ['d'], ['e']])
  })

  test('hands a busy executor a second batch only when it is full', async () => {
    const { executor, offer } = setUp({ maxBatchRows: 2 })
    offer('a', 'b')
    await turn()
    offer('c')
    await turn()
    expect(executor.ran).toHaveLength(1)
    offer('d', 'e')
    await turn()
    expect(executor.ran).toEqual([
      ['a', 'b'],
      ['c', 'd'],
    ])
  })

  test('keeps groups apart, the one that waited longest first', async () => {
    const { batcher, executor, done } = setUp()
    const other = group(2)
    batcher.offer(new FakeWork('a', { group: rows }))
    batcher.offer(new FakeWork('b', { group: other }))
    batcher.offer(new FakeWork('c', { group: rows }))
    await turn()
    done()
    expect(executor.ran).toEqual([['a', 'c'], ['b']])
  })

  test('runs requests of a model that takes no rows one by one', async () => {
    const { batcher, executor, done } = setUp()
    const alone = group(3, false)
    for (const name of ['a', 'b']) batcher.offer(new FakeWork(name, { group: alone }))
    await turn()
    done()
    expect(executor.ran).toEqual([['a'], ['b']])
  })

  test('learns from outputs without a row for each row, and answers each request alone', async () => {
    const { executor, offer, done } = setUp({}, false)
    const works = offer('a', 'b', 'c')
    await turn()
    done()
    await turn()
    for (let index = 0; index < 3; index++) done()
    expect(executor.ran).toEqual([['a', 'b', 'c'], ['a'], ['b'], ['c']])
    expect(works.map(code)).toEqual(['answered', 'answered', 'answered'])
    offer('d', 'e')
    await turn()
    done()
    expect(executor.ran.slice(4)).toEqual([['d'], ['e']])
  })
})

describe('work that nobody waits for', () => {
  test('does not reach the executor when its caller is gone', async () => {
    const { executor, offer, batcher } = setUp()
    const [a, b] = offer('a', 'b')
    if (a) a.isCancelled = true
    await turn()
    expect(executor.ran).toEqual([['b']])
    expect(a && code(a)).toBe(Code.CANCELLED)
    expect(b && code(b)).toBe('waiting')
    expect(batcher.counts.cancelled).toBe(1)
  })

  test('does not reach the executor after its deadline', async () => {
    const { batcher, executor } = setUp()
    const late = new FakeWork('late', { deadlineMs: Date.now() - 1 })
    batcher.offer(late)
    await turn()
    expect(executor.ran).toEqual([])
    expect(code(late)).toBe(Code.DEADLINE_EXCEEDED)
  })

  test('does not reach the executor when it cannot be done in time', async () => {
    const { batcher, executor, done, offer } = setUp()
    offer('first')
    await turn()
    const batch = executor.batches[0]
    if (batch) batcher.done(executor, executor.batches.shift() ?? batch, { outputs: [], computeMicros: 60_000_000 })
    const hasty = new FakeWork('hasty', { deadlineMs: Date.now() + 10_000 })
    batcher.offer(hasty)
    await turn()
    done()
    expect(executor.ran).toEqual([['first']])
    expect(code(hasty)).toBe(Code.DEADLINE_EXCEEDED)
  })
})

describe('a full queue', () => {
  test('refuses with RESOURCE_EXHAUSTED and the time to wait', async () => {
    const { batcher, offer } = setUp({ maxQueueRows: 2 })
    offer('running')
    await turn()
    const [, , over] = offer('a', 'b', 'c')
    expect(over?.outcome).toMatchObject({ code: Code.RESOURCE_EXHAUSTED, retryAfterMs: expect.any(Number) })
    expect(batcher.counts.shed).toBe(1)
  })

  test('is bounded by the wait that it means, too', async () => {
    const { offer, done } = setUp({ maxQueueWaitMs: 1, maxBatchRows: 1 })
    offer('running')
    await turn()
    done()
    const works = offer('a', 'b', 'c', 'd')
    expect(works.map(code)).toEqual(['waiting', 'waiting', Code.RESOURCE_EXHAUSTED, Code.RESOURCE_EXHAUSTED])
  })

  test('refuses at once what its deadline would not see answered', async () => {
    const { batcher, offer, done } = setUp({ maxBatchRows: 1 })
    offer('running')
    await turn()
    done()
    offer(...Array.from({ length: 60 }, (_, index) => String(index)))
    const hasty = new FakeWork('hasty', { deadlineMs: Date.now() + 20 })
    batcher.offer(hasty)
    expect(code(hasty)).toBe(Code.RESOURCE_EXHAUSTED)
  })
})

describe('a batch that goes wrong', () => {
  test('is halved until the one that fails is alone', async () => {
    const { executor, offer, done, failed } = setUp()
    const works = offer('a', 'b', 'poison', 'd')
    await turn()
    for (let index = 0; index < 10 && executor.batches.length > 0; index++) {
      if (executor.batches[0]?.members.some((member) => (member as FakeWork).name === 'poison')) failed()
      else done()
      await turn()
    }
    expect(works.map(code)).toEqual(['answered', 'answered', Code.INTERNAL, 'answered'])
    expect(works[2]?.outcome).toMatchObject({ message: "model 'm' version 1 failed to run: a text" })
  })

  test('whose executor dies is tried again one by one, once', async () => {
    const { batcher, executor, offer } = setUp()
    const works = offer('a', 'poison')
    await turn()
    batcher.died(executor, executor.batches.splice(0))
    const second = new FakeExecutor()
    batcher.attach(second)
    await turn()
    expect(second.ran).toEqual([['a']])
    const batch = second.batches.shift()
    if (batch) batcher.done(second, batch, result)
    expect(second.ran).toEqual([['a'], ['poison']])
    batcher.died(second, second.batches.splice(0))
    expect(works.map(code)).toEqual(['answered', Code.INTERNAL])
    await batcher.idle()
  })

  test('gives its threads back', async () => {
    const { batcher, executor, budget, offer } = setUp()
    offer('a')
    await turn()
    expect(budget.take(1, () => {})).toBe(false)
    batcher.died(executor, executor.batches.splice(0))
    expect(budget.take(1, () => {})).toBe(true)
  })
})

test('two versions share the threads there are, first come, first served', async () => {
  const one = setUp()
  const executor = new FakeExecutor()
  const other = new Batcher({
    model: 'n',
    version: '1',
    limits: wideLimits,
    budget: one.budget,
    threadsPerRun: 1,
    answer: () => true,
  })
  other.attach(executor)
  one.offer('a')
  await turn()
  other.offer(new FakeWork('b'))
  await turn()
  expect(executor.ran).toEqual([])
  one.done()
  expect(executor.ran).toEqual([['b']])
})

describe('a batch that waits behind another in its executor', () => {
  const twoBatches = async () => {
    const one = setUp({ maxBatchRows: 2 })
    one.offer('a', 'b')
    await turn()
    const works = one.offer('c', 'd')
    await turn()
    expect(one.executor.ran).toEqual([
      ['a', 'b'],
      ['c', 'd'],
    ])
    return { ...one, works }
  }

  test('is called back when the caller of one of its requests is gone; the others run, that one never', async () => {
    const { batcher, executor, done, works } = await twoBatches()
    const [c, d] = works
    c?.cancel()
    const [, behind] = executor.batches
    expect(executor.withdrawn).toEqual([behind])
    done()
    executor.batches.shift()
    if (behind) batcher.skipped(executor, behind)
    expect(executor.ran.slice(2)).toEqual([['d']])
    expect(c && code(c)).toBe(Code.CANCELLED)
    done()
    expect(d && code(d)).toBe('answered')
    expect(batcher.counts).toMatchObject({ cancelled: 1, batches: 2, rows: 3, executedAfterDeadline: 0 })
  })

  test('carries the earliest deadline in it, by which the executor skips it', async () => {
    const { batcher, executor } = setUp()
    const soonMs = Date.now() + 5000
    batcher.offer(new FakeWork('a', { deadlineMs: soonMs + 5000 }))
    batcher.offer(new FakeWork('b', { deadlineMs: soonMs }))
    batcher.offer(new FakeWork('c'))
    await turn()
    expect(executor.batches[0]?.notAfterMs).toBe(soonMs)
  })

  test('is not handed over while another version waits for threads', async () => {
    const { executor, budget, offer } = setUp({ maxBatchRows: 2 })
    offer('a', 'b')
    await turn()
    expect(budget.take(1, () => {})).toBe(false)
    offer('c', 'd')
    await turn()
    expect(executor.ran).toEqual([['a', 'b']])
  })
})

test('a run that began after a deadline in it is counted', async () => {
  const { batcher, executor } = setUp()
  const deadlineMs = Date.now() + 5000
  for (const beganMs of [deadlineMs - 1, deadlineMs, deadlineMs + 1]) {
    batcher.offer(new FakeWork('a', { deadlineMs }))
    await turn()
    const batch = executor.batches.shift()
    if (batch) batcher.done(executor, batch, { ...result, beganMs })
  }
  expect(batcher.counts.executedAfterDeadline).toBe(1)
})

describe('with a delay', () => {
  const reasons = (executor: FakeExecutor) => executor.batches.map(({ reason }) => reason)

  test('a batch is held back until it has the preferred size', async () => {
    const { executor, offer } = setUp({ delayMs: 60_000, preferredBatchRows: 3 })
    offer('a', 'b')
    await turn()
    expect(executor.ran).toEqual([])
    offer('c')
    await turn()
    expect(executor.ran).toEqual([['a', 'b', 'c']])
    expect(reasons(executor)).toEqual(['full'])
  })

  test('or until the delay is over', async () => {
    const { executor, offer } = setUp({ delayMs: 5 })
    offer('a')
    await turn()
    await expect.poll(() => executor.ran).toEqual([['a']])
    expect(reasons(executor)).toEqual(['delay_expired'])
  })

  test('or until requests of another kind come', async () => {
    const { batcher, executor, offer } = setUp({ delayMs: 60_000 })
    offer('a')
    await turn()
    batcher.offer(new FakeWork('b', { group: group(2) }))
    await turn()
    expect(executor.ran).toEqual([['a']])
    expect(reasons(executor)).toEqual(['shape_change'])
  })

  test('or until the version is to end', async () => {
    const { batcher, executor, offer, done } = setUp({ delayMs: 60_000 })
    offer('a')
    await turn()
    const idle = batcher.idle()
    await turn()
    expect(reasons(executor)).toEqual(['drain'])
    done()
    await idle
  })
})

test('an executor that is to leave gets no more batches and goes when it has done its last', async () => {
  const { batcher, executor, offer, done } = setUp()
  offer('a')
  await turn()
  let isGone = false
  const leaving = batcher.detach(executor).then(() => {
    isGone = true
  })
  offer('b')
  done()
  expect(executor.ran).toEqual([['a']])
  await leaving
  expect(isGone).toBe(true)
  await batcher.detach(new FakeExecutor())
})

test('whoever listens hears of each request that was not answered, once', async () => {
  const heard: string[] = []
  const { batcher, executor, offer, failed } = setUp({}, true, (work, failure) =>
    heard.push(`${(work as FakeWork).name} ${failure.reason}`),
  )
  offer('poison')
  await turn()
  failed()
  batcher.offer(new FakeWork('late', { deadlineMs: Date.now() - 1 }))
  const [gone] = offer('gone')
  gone?.cancel()
  await turn()
  offer('lost')
  await turn()
  batcher.died(executor, executor.batches.splice(0))
  offer('waiting')
  batcher.failAll(() => refusal.stopping())
  expect(heard).toEqual([
    'poison MODEL_RUN_FAILED',
    'late DEADLINE_EXCEEDED',
    'gone CANCELLED',
    'lost EXECUTOR_DIED',
    'waiting STOPPING',
  ])
})
