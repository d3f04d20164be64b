import { getEventListeners } from 'node:events'
import { identityModel } from '@slipway/onnx'
import { Code, Failure } from '@slipway/rpc'
import { afterEach, expect, test } from 'vitest'
import type { Batch, Executor, ExecutorEvents, StartExecutor } from './executors/executor.ts'
import { predict } from './local-predictions.ts'
import { serve, type TestServer } from './testing.ts'

// A real server and real calls over an executor that runs when the test says so.

class HeldExecutor implements Executor {
  readonly slots = 2
  readonly memoryBytes = 0
  readonly batches: Batch[] = []
  readonly withdrawn = new Set<Batch>()
  /** First byte of each request that ran. */
  readonly ran: number[] = []
  readonly #events: ExecutorEvents
  isOpen = true

  constructor(events: ExecutorEvents) {
    this.#events = events
  }

  get running(): number {
    return this.batches.length
  }

  run(batch: Batch): void {
    this.batches.push(batch)
    if (this.isOpen) setImmediate(() => this.finish())
  }

  withdraw(batch: Batch): void {
    this.withdrawn.add(batch)
  }

  /** What the one that is under way does: skips its batch, or answers it. */
  finish(): void {
    const batch = this.batches.shift()
    if (batch === undefined) return
    const beganMs = Date.now()
    if (this.withdrawn.has(batch) || beganMs > (batch.notAfterMs ?? beganMs)) {
      this.#events.skipped?.(batch)
      return
    }
    const bytes = Buffer.concat(batch.members.map(({ bytes: all, offsets }) => all.subarray(offsets[0], offsets[1])))
    this.ran.push(...bytes)
    this.#events.done(batch, { outputs: [{ dims: [batch.rows], bytes }], computeMicros: 5000, beganMs })
  }

  async close(): Promise<void> {}
}

let server: TestServer
let executor: HeldExecutor
afterEach(() => server.stop())

async function start(maxBatchRows: number): Promise<void> {
  const startExecutor: StartExecutor = async ({ events }) => {
    executor = new HeldExecutor(events)
    return executor
  }
  const limits = { maxBatchRows, maxBatchBytes: 1 << 20, maxQueueRows: 1000, maxQueueWaitMs: 60_000 }
  server = await serve([{ model: 'm', bytes: identityModel('UINT8') }], { startExecutor, limits })
  executor.isOpen = false
  executor.ran.length = 0
}

const request = (value: number) => ({
  modelName: 'm',
  inputs: [{ name: 'input', datatype: 'UINT8', shape: [1n] }],
  rawInputContents: [Buffer.of(value)],
})
const ask = (value: number, options: { timeoutMs?: number; signal?: AbortSignal } = {}) =>
  server.client.modelInfer(request(value), options).then(
    () => 'answered',
    (error: unknown) => (error instanceof Failure ? error : Failure.from(error)),
  )
const counts = () => server.models.resolve('m', '').counts
const codeOf = (outcome: string | Failure) => (typeof outcome === 'string' ? outcome : outcome.code)

/** Lets the executor go on with the batch that runs and the one behind it. */
async function expectAnswered(...calls: readonly Promise<unknown>[]): Promise<void> {
  executor.isOpen = true
  executor.finish()
  executor.finish()
  expect(new Set(await Promise.all(calls))).toEqual(new Set(['answered']))
}

test('a call whose deadline passes while it waits never runs, in the queue or in the executor', async () => {
  await start(1)
  const first = ask(1)
  await expect.poll(() => executor.running).toBe(1)
  // The model has taken 5 ms a run until now, so these may hope to be answered.
  const hasty = [2, 3, 4].map((value) => ask(value, { timeoutMs: 700 }))
  await expect.poll(() => [executor.running, counts().queued]).toEqual([2, 2])
  expect((await Promise.all(hasty)).map(codeOf)).toEqual(Array(3).fill(Code.DEADLINE_EXCEEDED))
  const last = ask(5)
  await expect.poll(() => counts().queued).toBe(3)
  await expectAnswered(first, last)
  expect(executor.ran).toEqual([1, 5])
  expect(counts()).toMatchObject({ expired: 3, executedAfterDeadline: 0, batches: 5, rows: 5 })
})

test('a call that is cancelled while it waits never runs, in the queue or in the executor', async () => {
  await start(1)
  const first = ask(1)
  await expect.poll(() => executor.running).toBe(1)
  const giveUp = new AbortController()
  const given = [2, 3].map((value) => ask(value, { signal: giveUp.signal }))
  await expect.poll(() => [executor.running, counts().queued]).toEqual([2, 1])
  giveUp.abort()
  expect((await Promise.all(given)).map(codeOf)).toEqual([Code.CANCELLED, Code.CANCELLED])
  await expect.poll(() => executor.withdrawn.size).toBe(1)
  const last = ask(4)
  await expect.poll(() => counts().queued).toBe(2)
  await expectAnswered(first, last)
  expect(executor.ran).toEqual([1, 4])
  await expect.poll(() => counts().cancelled).toBe(2)
})

test('messages of a stream that is cancelled never run, in the queue or in the executor', async () => {
  await start(1)
  const giveUp = new AbortController()
  async function* messages(values: readonly number[]) {
    for (const value of values) yield request(value)
    await new Promise(() => undefined)
  }
  const read = async (values: readonly number[], signal: AbortSignal): Promise<void> => {
    for await (const _ of server.client.modelStreamInfer(messages(values), { signal })) break
  }
  const first = ask(1)
  await expect.poll(() => executor.running).toBe(1)
  const given = read([2, 3, 4], giveUp.signal).catch((error: unknown) => Failure.from(error))
  await expect.poll(() => [executor.running, counts().queued]).toEqual([2, 2])
  giveUp.abort()
  expect(await given).toMatchObject({ code: Code.CANCELLED })
  await expect.poll(() => executor.withdrawn.size).toBe(1)
  const last = ask(5)
  await expect.poll(() => counts().queued).toBe(3)
  await expectAnswered(first, last)
  expect(executor.ran).toEqual([1, 5])
  await expect.poll(() => counts().cancelled).toBe(3)
})

test('what the server asks for itself and gives up never runs, in the queue or in the executor', async () => {
  await start(1)
  const served = server.models.resolve('m', '')
  const askOwn = (value: number, { signal }: AbortController) => {
    const input = { name: 'input', datatype: 'UINT8', shape: [1], bytes: Buffer.of(value) }
    return predict(served, { inputs: [input], signal }).then(() => 'answered', Failure.from)
  }
  const goesOn = new AbortController()
  const giveUp = new AbortController()
  const first = askOwn(1, goesOn)
  const given = [2, 3].map((value) => askOwn(value, giveUp))
  await expect.poll(() => [executor.running, counts().queued]).toEqual([2, 1])
  expect(getEventListeners(giveUp.signal, 'abort')).toHaveLength(1)
  giveUp.abort()
  expect(executor.withdrawn.size).toBe(1)
  const last = askOwn(4, goesOn)
  await expectAnswered(first, last)
  expect((await Promise.all(given)).map(codeOf)).toEqual([Code.CANCELLED, Code.CANCELLED])
  expect(executor.ran).toEqual([1, 4])
  for (const { signal } of [goesOn, giveUp]) expect(getEventListeners(signal, 'abort')).toEqual([])
})

test('a call that cannot be answered in time is refused at once, with the time after which to try again', async () => {
  await start(1)
  const waiting = Array.from({ length: 400 }, (_, index) => ask(index % 256))
  await expect.poll(() => counts().queued, { timeout: 20_000 }).toBeGreaterThan(390)
  // Some 2000 ms of work are before it.
  const outcome = await ask(0, { timeoutMs: 2000 })
  expect(outcome).toMatchObject({ code: Code.RESOURCE_EXHAUSTED, reason: 'QUEUE_FULL' })
  expect(outcome instanceof Failure && outcome.retryAfterMs).toBeGreaterThan(1000)
  expect(counts().shed).toBe(1)
  await expectAnswered(...waiting)
})
