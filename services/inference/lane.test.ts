import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Executor, ExecutorStart } from './executors/executor.ts'
import { Lane } from './lane.ts'

const policy = { firstDelayMs: 100, maxDelayMs: 1000, maxDeaths: 3, windowMs: 600_000 }

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** A lane over executors that the test starts, refuses and kills. */
function open({ detached = Promise.resolve() }: { detached?: Promise<void> } = {}) {
  const starts: { readonly start: ExecutorStart; succeed(): Executor; refuse(text: string): void }[] = []
  const events: string[] = []
  const nameOf = new Map<Executor, number>()
  const lane = new Lane({
    name: 'm',
    start: (start) =>
      new Promise((resolve, reject) => {
        const index = starts.length
        start.signal?.addEventListener('abort', () => reject(new Error('given up')))
        starts.push({
          start,
          succeed: () => {
            const executor = fakeExecutor(() => events.push(`closed ${index}`))
            nameOf.set(executor, index)
            resolve(executor)
            return executor
          },
          refuse: (text) => reject(new Error(text)),
        })
      }),
    model: async () => 'path',
    intraOpThreads: 1,
    batcher: {
      attach: (executor) => void events.push(`attached ${nameOf.get(executor)}`),
      detach: (executor) => {
        events.push(`detached ${nameOf.get(executor)}`)
        return detached
      },
      done: () => {},
      failed: () => {},
      skipped: () => {},
      died: (executor) => void events.push(`died ${nameOf.get(executor)}`),
    },
    policy,
    onDeath: (reason, isQuarantined) => events.push(isQuarantined ? `quarantined: ${reason}` : `lost: ${reason}`),
    onReplaced: (reason) => events.push(`replaced: ${reason}`),
  })
  const settle = () => vi.advanceTimersByTimeAsync(0)
  return { lane, starts, events, settle }
}

function fakeExecutor(onClose: () => void): Executor {
  return {
    slots: 1,
    running: 0,
    memoryBytes: 7,
    run: () => {},
    withdraw: () => {},
    close: async () => onClose(),
  }
}

async function opened(options?: { detached?: Promise<void> }) {
  const result = open(options)
  const opening = result.lane.open()
  await result.settle()
  result.starts[0]?.succeed()
  await opening
  return result
}

test('an executor that dies is started again after a while that doubles, and given up after too many deaths', async () => {
  const { lane, starts, events, settle } = await opened()
  for (const delayMs of [100, 200]) {
    starts.at(-1)?.start.events.died([], 'SIGSEGV')
    const before = starts.length
    await vi.advanceTimersByTimeAsync(delayMs - 1)
    expect(starts).toHaveLength(before)
    await vi.advanceTimersByTimeAsync(1)
    starts.at(-1)?.succeed()
    await settle()
  }
  expect(lane.isQuarantined).toBe(false)
  starts.at(-1)?.start.events.died([], 'SIGSEGV')
  expect(lane.isQuarantined).toBe(true)
  expect(lane.memoryBytes).toBe(0)
  expect(events.filter((event) => event.includes(':'))).toEqual([
    'lost: SIGSEGV',
    'lost: SIGSEGV',
    'quarantined: SIGSEGV',
  ])
  await lane.close()
})

test('a restart that is refused counts as a death', async () => {
  const { lane, starts, events } = await opened()
  starts[0]?.start.events.died([], 'exit code 1')
  await vi.advanceTimersByTimeAsync(100)
  starts[1]?.refuse('no memory')
  await vi.advanceTimersByTimeAsync(200)
  expect(starts).toHaveLength(3)
  expect(events).toContain('lost: no memory')
  await lane.close()
})

test('one that holds too much memory answers until its successor is ready, and ends when its batches have ended', async () => {
  let end = (): void => {}
  const detached = new Promise<void>((resolve) => (end = resolve))
  const { lane, starts, events, settle } = await opened({ detached })
  starts[0]?.start.events.worn?.('too much')
  starts[0]?.start.events.worn?.('too much')
  await settle()
  expect(starts).toHaveLength(2)
  expect(events).toEqual(['attached 0'])
  starts[1]?.succeed()
  await settle()
  expect(events).toEqual(['attached 0', 'attached 1', 'detached 0'])
  end()
  await settle()
  expect(events.slice(3)).toEqual(['closed 0', 'replaced: too much'])
  expect(lane.isQuarantined).toBe(false)
  await lane.close()
})

test('a successor that cannot be started leaves the worn one in its place, and is not tried again at once', async () => {
  const { lane, starts, events, settle } = await opened()
  const worn = async () => {
    starts[0]?.start.events.worn?.('too much')
    await settle()
  }
  await worn()
  starts[1]?.refuse('no memory')
  await settle()
  await worn()
  expect(starts).toHaveLength(2)
  await vi.advanceTimersByTimeAsync(policy.maxDelayMs)
  await worn()
  expect(starts).toHaveLength(3)
  expect(events).toEqual(['attached 0'])
  await lane.close()
})

test('one that dies while its successor starts leaves its place to it', async () => {
  const { lane, starts, events, settle } = await opened()
  starts[0]?.start.events.worn?.('too much')
  await settle()
  starts[0]?.start.events.died([], 'SIGKILL')
  starts[1]?.succeed()
  await settle()
  await vi.advanceTimersByTimeAsync(100)
  starts[2]?.succeed()
  await settle()
  expect(events.filter((event) => event.startsWith('attached'))).toEqual(['attached 0', 'attached 2'])
  expect(events).toContain('closed 1')
  await lane.close()
})

test('a lane that is closed gives up what it starts, waits for no batch of a worn executor, and leaves nothing', async () => {
  const { lane, starts, events, settle } = await opened({ detached: new Promise(() => {}) })
  starts[0]?.start.events.worn?.('too much')
  await settle()
  starts[1]?.succeed()
  await settle()
  await lane.close()
  expect(events).toContain('closed 0')
  expect(events).toContain('closed 1')

  const starting = open()
  const opening = starting.lane.open()
  await starting.settle()
  const closing = starting.lane.close()
  await expect(opening).rejects.toThrow('given up')
  await closing
})
