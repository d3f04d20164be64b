import { Code, Failure } from '@slipway/rpc'
import { describe, expect, test, vi } from 'vitest'
import type { OutputView } from '../executors/executor.ts'
import { type LocalRequest, predict, type RawTensor } from '../local-predictions.ts'
import type { FindGroup } from '../plan.ts'
import { refusal } from '../refusals.ts'
import type { Servable } from '../servable.ts'
import { describeSignature } from '../signature.ts'
import { BACKGROUND_PRIORITY, type Group, type Work } from '../work-queue.ts'
import { CachedVersion } from './cached-version.ts'
import { createResponseCache } from './response-cache.ts'
import { ResponseStore } from './response-store.ts'

const digestOf = (character: string): string => `sha256:${character.repeat(64)}`
const wide = { maxBytes: 1024 * 1024, ttlMs: 60_000 }
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** A version that keeps what it is offered, and doubles the bytes of its input when told to answer. */
class HeldVersion implements Servable {
  readonly name = 'models/m/versions/1'
  readonly model = 'm'
  readonly number = '1'
  readonly sizeBytes = 1
  readonly platform = 'held'
  readonly isQuarantined = false
  readonly counts = { queued: 0, batches: 0, rows: 0, expired: 0, cancelled: 0, shed: 0, executedAfterDeadline: 0 }
  readonly signature = describeSignature(
    [
      { name: 'a', datatype: 'UINT8', shape: [-1, -1] },
      { name: 'b', datatype: 'UINT8', shape: [-1, -1] },
    ],
    [
      { name: 'x', datatype: 'UINT8', shape: [-1, -1] },
      { name: 'y', datatype: 'UINT8', shape: [-1, -1] },
    ],
  )
  readonly digest: string
  readonly offered: Work[] = []
  lastUsedMs = 0
  #groups = new Map<string, Group>()

  constructor(digest = digestOf('0')) {
    this.digest = digest
  }

  readonly group: FindGroup = (inputs, outputs, batchable) => {
    const key = JSON.stringify([inputs, outputs])
    const known = this.#groups.get(key)
    const group = known ?? {
      id: this.#groups.size,
      inputs,
      outputs,
      batchable,
      outputDatatypes: outputs.map(() => 'UINT8' as const),
    }
    this.#groups.set(key, group)
    return group
  }

  offer(work: Work): void {
    this.offered.push(work)
  }

  /** Answers everything that waits, each output with the request's bytes doubled, inside memory that is used again at once. */
  answerAll(): void {
    for (const work of this.offered.splice(0)) {
      if (work.isCancelled) {
        work.fail(refusal.cancelled())
        continue
      }
      const shared = Buffer.from([99, ...work.bytes.map((value) => value * 2), 99])
      const outputs: OutputView[] = work.group.outputs.map(() => ({
        dims: [work.rows, work.bytes.length],
        bytes: shared,
      }))
      const starts = outputs.map(() => 1)
      work.answer(outputs, { starts, ends: outputs.map(() => shared.length - 1), rows: work.rows })
      shared.fill(0)
    }
  }

  failAll(failure: Failure): void {
    for (const work of this.offered.splice(0)) work.fail(failure)
  }

  async drain(): Promise<void> {}
  async close(): Promise<void> {}
}

const tensor = (name: string, values: readonly number[]): RawTensor => ({
  name,
  datatype: 'UINT8',
  shape: [1, values.length],
  bytes: Buffer.from(values),
})
const inputs = (a: readonly number[], b: readonly number[] = [7]) => [tensor('a', a), tensor('b', b)]

function setUp(limits = wide, version = new HeldVersion(), store = new ResponseStore(limits)) {
  const cached = new CachedVersion(version, store)
  const ask = (request: LocalRequest) => predict(cached, request)
  const askAndAnswer = async (request: LocalRequest) => {
    const answer = ask(request)
    version.answerAll()
    const outputs = await answer
    await turn()
    return outputs
  }
  return { version, store, cached, ask, askAndAnswer }
}

describe('an answer is given again', () => {
  test('to an equal request, as it was, although the executor used its memory again', async () => {
    const { version, ask, askAndAnswer, cached } = setUp()
    const first = await askAndAnswer({ inputs: inputs([1, 2]) })
    const second = await ask({ inputs: inputs([1, 2]) })
    expect(second).toEqual(first)
    expect(second[0]?.bytes).toEqual(Buffer.from([2, 4, 14]))
    expect(second[0]?.shape).toEqual([1, 3])
    expect(version.offered).toEqual([])
    expect(cached.counts).toMatchObject({ cacheHits: 1, cacheMisses: 1 })
  })

  test.each<[string, LocalRequest]>([
    ['other values', { inputs: inputs([1, 3]) }],
    ['the same bytes cut elsewhere', { inputs: inputs([1], [2, 7]) }],
    [
      'other shapes',
      {
        inputs: [
          { ...tensor('a', [1, 2]), shape: [2, 1] },
          { ...tensor('b', [7, 7]), shape: [2, 1] },
        ],
      },
    ],
    ['other outputs', { inputs: inputs([1, 2]), outputs: ['x'] }],
    ['the outputs in another order', { inputs: inputs([1, 2]), outputs: ['y', 'x'] }],
  ])('but not to one with %s', async (_, other) => {
    const { version, ask, askAndAnswer } = setUp()
    await askAndAnswer({ inputs: inputs([1, 2]) })
    const answer = ask(other)
    expect(version.offered).toHaveLength(1)
    version.answerAll()
    await answer
  })

  test('never by another version that shares the store', async () => {
    const store = new ResponseStore(wide)
    const one = setUp(wide, new HeldVersion(digestOf('1')), store)
    const two = setUp(wide, new HeldVersion(digestOf('2')), store)
    await one.askAndAnswer({ inputs: inputs([1]) })
    const answer = two.ask({ inputs: inputs([1]) })
    expect(two.version.offered).toHaveLength(1)
    two.version.answerAll()
    await answer
  })

  test('and neither read nor kept for background work', async () => {
    const { version, askAndAnswer, store } = setUp()
    const background = { inputs: inputs([1]), priority: BACKGROUND_PRIORITY }
    await askAndAnswer(background)
    expect(store.counts.entries).toBe(0)
    await askAndAnswer({ inputs: inputs([1]) })
    const answer = predict(new CachedVersion(version, store), background)
    expect(version.offered).toHaveLength(1)
    version.answerAll()
    await answer
  })
})

describe('equal requests that come while the first one runs', () => {
  test('run once, and each is answered', async () => {
    const { version, ask, cached } = setUp()
    const answers = Array.from({ length: 100 }, () => ask({ inputs: inputs([5]) }))
    expect(version.offered).toHaveLength(1)
    version.answerAll()
    const outputs = await Promise.all(answers)
    expect(new Set(outputs.map((output) => output[0]?.bytes.toString('hex')))).toEqual(new Set(['0a0e']))
    expect(cached.counts).toMatchObject({ cacheHits: 99, cacheMisses: 1 })
  })

  test('are not given up when the first caller goes, and are when all have gone', async () => {
    const { version, ask } = setUp()
    const first = new AbortController()
    const second = new AbortController()
    const answers = [ask({ inputs: inputs([5]), signal: first.signal })]
    const told = vi.fn()
    version.offered[0]?.onCancel?.(told)
    answers.push(ask({ inputs: inputs([5]), signal: second.signal }))
    const settled = Promise.allSettled(answers)
    first.abort()
    expect(version.offered[0]?.isCancelled).toBe(false)
    expect(told).not.toHaveBeenCalled()
    second.abort()
    expect(version.offered[0]?.isCancelled).toBe(true)
    expect(told).toHaveBeenCalledOnce()
    const third = ask({ inputs: inputs([5]) })
    expect(version.offered).toHaveLength(2)
    version.answerAll()
    expect((await settled).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    await expect(third).resolves.toHaveLength(2)
  })

  test('wait as long as the one that waits longest, and each within its own deadline', async () => {
    const { version, ask } = setUp()
    const soonMs = Date.now() + 5
    const short = ask({ inputs: inputs([5]), deadlineMs: Date.now() + 60_000 })
    const late = ask({ inputs: inputs([5]), deadlineMs: soonMs })
    const refused = expect(late).rejects.toMatchObject({ code: Code.DEADLINE_EXCEEDED })
    expect(version.offered[0]?.deadlineMs).toBeGreaterThan(soonMs)
    while (Date.now() <= soonMs) await turn()
    version.answerAll()
    await refused
    await expect(short).resolves.toHaveLength(2)
  })

  test('fail with the one that ran, which is not kept', async () => {
    const { version, ask, store } = setUp()
    const answers = Promise.allSettled([ask({ inputs: inputs([5]) }), ask({ inputs: inputs([5]) })])
    version.failAll(new Failure(Code.INTERNAL, 'MODEL_RUN_FAILED', 'a poison'))
    expect((await answers).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    await turn()
    expect(store.counts.entries).toBe(0)
    const again = ask({ inputs: inputs([5]) })
    version.answerAll()
    await expect(again).resolves.toHaveLength(2)
  })
})

describe('the store', () => {
  const view = (bytes: number): OutputView[] => [{ dims: [bytes], bytes: Buffer.alloc(bytes) }]

  test('lets the longest unused answers go when it is full, and never holds more than its bound', () => {
    const store = new ResponseStore({ maxBytes: 20_000, ttlMs: 1000 })
    for (let key = 0; key < 100; key++) {
      store.put(`${key}`, view(1000), 0)
      store.get('0', 0)
      expect(store.counts.bytes).toBeLessThanOrEqual(20_000)
    }
    expect(store.get('0', 0)).toBeDefined()
    expect(store.get('1', 0)).toBeUndefined()
    expect(store.get('99', 0)).toBeDefined()
    expect(store.counts.entries + store.counts.evicted).toBe(100)
  })

  test('gives no answer that is too old', () => {
    const store = new ResponseStore({ maxBytes: 20_000, ttlMs: 1000 })
    store.put('key', view(10), 500)
    expect(store.get('key', 1499)).toBeDefined()
    expect(store.get('key', 1500)).toBeUndefined()
    expect(store.counts).toMatchObject({ entries: 0, bytes: 0, expired: 1 })
  })

  test('does not give up many answers for a huge one', () => {
    const store = new ResponseStore({ maxBytes: 20_000, ttlMs: 1000 })
    store.put('small', view(100), 0)
    store.put('huge', view(10_000), 0)
    expect(store.counts).toMatchObject({ entries: 1, tooLarge: 1 })
  })

  test('counts an answer that is put again once', () => {
    const store = new ResponseStore({ maxBytes: 20_000, ttlMs: 1000 })
    store.put('key', view(1000), 0)
    const { bytes } = store.counts
    store.put('key', view(1000), 1)
    expect(store.counts).toMatchObject({ entries: 1, bytes })
  })
})

test('what a version says of itself is said through its cache', () => {
  const version = Object.assign(new HeldVersion(), { memoryBytes: 7, lastUsedMs: 5 })
  const cached = new CachedVersion(version, new ResponseStore(wide))
  const { name, model, number, digest, sizeBytes, memoryBytes, signature, platform, isQuarantined, lastUsedMs } =
    version
  expect(cached).toMatchObject({
    name,
    model,
    number,
    digest,
    sizeBytes,
    memoryBytes,
    signature,
    platform,
    isQuarantined,
    lastUsedMs,
  })
})

test('a server without room for answers keeps none, and one with room only those of the models named', () => {
  const version = new HeldVersion()
  const settings = { maxCachedResponseBytes: 0, responseTtlMs: 1000, cachedModels: undefined }
  expect(createResponseCache(settings)(version)).toBe(version)
  const some = { ...settings, maxCachedResponseBytes: 1000 }
  expect(createResponseCache(some)(version)).toBeInstanceOf(CachedVersion)
  expect(createResponseCache({ ...some, cachedModels: new Set(['other']) })(version)).toBe(version)
})
