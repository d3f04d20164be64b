import { Code, Failure } from '@slipway/rpc'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { splitVersionName, type VersionFiles } from './model-source.ts'
import { ModelTable } from './model-table.ts'
import { Residency, type ResidencyOptions } from './residency-loop.ts'
import type { Servable } from './servable.ts'
import type { AskedBy, WantedVersions } from './wanted-versions.ts'

/** What is wanted, kept nowhere. */
class Wanted implements WantedVersions {
  aliases: Record<string, string> = {}
  asked: Record<string, AskedBy> = {}
  readonly gone = new Set<string>()
  get unloaded(): readonly string[] {
    return [...this.gone]
  }
  setAsked(version: string, by: AskedBy | undefined): void {
    if (by === undefined) delete this.asked[version]
    else this.asked[version] = by
  }
  setUnloaded(version: string, isUnloaded: boolean): void {
    if (isUnloaded) this.gone.add(version)
    else this.gone.delete(version)
  }
  prune(): void {}
  async flush(): Promise<void> {}
}

const DIGEST = `sha256:${'1'.repeat(64)}`
const M1 = 'models/m/versions/1'
const M2 = 'models/m/versions/2'
const N1 = 'models/n/versions/1'

let wanted: Wanted
let models: ModelTable
let residency: Residency
/** Loads that were begun, and how to end the ones that wait. */
let begun: string[]
let gates: Map<string, PromiseWithResolvers<void>>
let ended: string[]

function files(name: string): VersionFiles {
  const { model, number } = splitVersionName(name)
  const refuse = () => Promise.reject(new Error('not read'))
  return { name, model, number, digest: DIGEST, files: [], read: refuse, layOut: refuse }
}

function servable(name: string): Servable {
  const { model, number } = splitVersionName(name)
  const none = () => {
    throw new Error('not run')
  }
  return {
    name,
    model,
    number,
    digest: DIGEST,
    sizeBytes: 60,
    signature: { inputs: [], outputs: [], takesRows: false },
    platform: 'fake',
    isQuarantined: false,
    counts: { queued: 0, batches: 0, rows: 0, expired: 0, cancelled: 0, shed: 0, executedAfterDeadline: 0 },
    lastUsedMs: Date.now(),
    group: none,
    offer: none,
    drain: async () => {
      ended.push(name)
    },
    close: async () => undefined,
  }
}

function open(change: Partial<ResidencyOptions['policy']> = {}, maxWaiters = 100): void {
  residency = new Residency({
    wanted,
    models,
    maxWaiters,
    source: { files: async (name) => files(name), sizeBytes: () => 60, letGo: async () => undefined },
    start: async (name) => {
      begun.push(name)
      await gates.get(name)?.promise
      return servable(name)
    },
    estimateBytes: (bytes) => bytes,
    defaultAlias: 'champion',
    policy: {
      maxLoading: 2,
      maxMemoryBytes: 1000,
      idleMs: 3_600_000,
      aliasedIdleMs: Number.POSITIVE_INFINITY,
      unwantedIdleMs: 3_600_000,
      keepMs: 0,
      maxDemandMs: 60_000,
      maxUnloaded: 100,
      retryMs: 50,
      maxRetryMs: 3_600_000,
      ...change,
    },
  })
}

function alias(name: string): void {
  wanted.aliases['models/m/aliases/champion'] = name
  residency.followAliases()
}

const kind = (name: string) => {
  const { model, number } = splitVersionName(name)
  return models.get(model, number)?.kind
}
const becomes = (name: string, expected: string | undefined) => expect.poll(() => kind(name)).toBe(expected)
const hold = (name: string) => gates.set(name, Promise.withResolvers()).get(name) as PromiseWithResolvers<void>

beforeEach(() => {
  wanted = new Wanted()
  models = new ModelTable()
  begun = []
  ended = []
  gates = new Map()
})
afterEach(async () => {
  for (const gate of gates.values()) gate.resolve()
  await residency.stop()
})

describe('a version that was let go', () => {
  test('is known, and one load answers all who ask for it, by number and as the default', async () => {
    wanted.setUnloaded(M1, true)
    open()
    alias(M1)
    await residency.settled()
    expect([kind(M1), begun]).toEqual(['unloaded', []])
    const gate = hold(M1)
    const callers = ['', '1', '', '1'].map((version) => models.acquire('m', version))
    await expect.poll(() => begun).toEqual([M1])
    gate.resolve()
    const answers = await Promise.all(callers)
    expect(new Set(answers.map(({ name }) => name))).toEqual(new Set([M1]))
    expect(begun).toEqual([M1])
    expect(models.resolve('m', '').name).toBe(M1)
    expect(wanted.unloaded).toEqual([])
  })

  test('is not stood in for by another version of its model', async () => {
    wanted.setUnloaded(M1, true)
    wanted.setAsked(M2, 'request')
    open()
    alias(M1)
    await becomes(M2, 'ready')
    const gate = hold(M1)
    const caller = models.acquire('m', '')
    await becomes(M1, 'loading')
    expect(() => models.resolve('m', '')).toThrow('not at ready state')
    gate.resolve()
    expect((await caller).name).toBe(M1)
  })

  test('makes only so many callers wait; one more is RESOURCE_EXHAUSTED', async () => {
    wanted.setUnloaded(M1, true)
    open({}, 3)
    alias(M1)
    const gate = hold(M1)
    const callers = Array.from({ length: 3 }, () => models.acquire('m', '1'))
    await expect(models.acquire('m', '1')).rejects.toMatchObject({
      code: Code.RESOURCE_EXHAUSTED,
      reason: 'TOO_MANY_WAITERS',
    })
    gate.resolve()
    await Promise.all(callers)
  })

  test('that cannot be loaded tells all who wait, and the next caller at once, until it is due again', async () => {
    wanted.setUnloaded(M1, true)
    open({ retryMs: 3_600_000 })
    alias(M1)
    const gate = hold(M1)
    const callers = Array.from({ length: 5 }, () => models.acquire('m', '1'))
    const told = Promise.allSettled(callers)
    await expect.poll(() => begun).toEqual([M1])
    gate.reject(new Failure(Code.UNAVAILABLE, 'GONE', 'the registry is away'))
    for (const outcome of await told) expect(outcome).toMatchObject({ status: 'rejected', reason: { reason: 'GONE' } })
    for (let call = 0; call < 10; call++) expect(() => models.acquire('m', '')).toThrow('the registry is away')
    expect(begun).toEqual([M1])
    gates.delete(M1)
    await residency.loadModel('m')
    expect(begun).toEqual([M1, M1])
  })

  test('is taken off the table when nothing wants it any more', async () => {
    wanted.setUnloaded(M1, true)
    open()
    alias(M1)
    expect(kind(M1)).toBe('unloaded')
    alias(M2)
    expect(kind(M1)).toBeUndefined()
    await becomes(M2, 'ready')
    expect(() => models.acquire('m', '1')).toThrow('is not found')
  })
})

describe('residency', () => {
  test('lets a version go that has been idle, and remembers it as such', async () => {
    open({ idleMs: 20 })
    await residency.load(M1, DIGEST, 'request')
    await becomes(M1, 'unloaded')
    expect([ended, wanted.unloaded, wanted.asked]).toEqual([[M1], [M1], { [M1]: 'request' }])
    expect((await models.acquire('m', '1')).name).toBe(M1)
  })

  test('takes turns with versions that do not fit together, for their callers only', async () => {
    open({ maxMemoryBytes: 100 })
    await residency.load(M1, '', 'endpoint')
    await residency.load(N1, '', 'endpoint')
    expect([kind(M1), kind(N1)]).toEqual(['unloaded', 'ready'])
    expect((await models.acquire('m', '1')).name).toBe(M1)
    expect([kind(M1), kind(N1)]).toEqual(['ready', 'unloaded'])
    expect(begun).toEqual([M1, N1, M1])
  })

  test('refuses what does not fit at all, and says how much it needs', async () => {
    open({ maxMemoryBytes: 50 })
    const refused = expect(residency.load(M1, '', 'request')).rejects
    await refused.toMatchObject({ code: Code.RESOURCE_EXHAUSTED, reason: 'MEMORY_BUDGET' })
    expect(begun).toEqual([])
  })

  test('knows from the start what was let go before', async () => {
    wanted.setAsked(M1, 'endpoint')
    wanted.setUnloaded(M1, true)
    open()
    await residency.settled()
    expect([kind(M1), begun]).toEqual(['unloaded', []])
  })

  test('holds a version against everything until it is released', async () => {
    open({ idleMs: 1, unwantedIdleMs: 1 })
    const held = await residency.hold(M1, DIGEST)
    expect(held.served.name).toBe(M1)
    await expect(residency.unload(M1)).rejects.toMatchObject({ reason: 'VERSION_HELD' })
    await residency.settled()
    expect(kind(M1)).toBe('ready')
    held.release()
    held.release()
    await becomes(M1, undefined)
  })

  test('loads what is held although all places for loads are taken', async () => {
    open({ maxLoading: 1 })
    const gate = hold(M1)
    const first = residency.load(M1, '', 'request')
    await expect.poll(() => begun).toEqual([M1])
    const held = await residency.hold(N1, '')
    gate.resolve()
    await first
    held.release()
  })

  test('refuses to hold a version that has another digest', async () => {
    open()
    await expect(residency.hold(M1, `sha256:${'2'.repeat(64)}`)).rejects.toMatchObject({ reason: 'DIGEST_MISMATCH' })
    expect(kind(M1)).toBeUndefined()
  })

  test('reloads a version whose files have changed; the old one answers until then, and goes on when the new one fails', async () => {
    open()
    await residency.load(M1, '', 'request')
    const old = models.resolve('m', '1')
    const gate = hold(M1)
    const failing = residency.reload(M1)
    expect(models.resolve('m', '1')).toBe(old)
    gate.reject(new Error('not a model'))
    await failing
    expect(models.resolve('m', '1')).toBe(old)
    gates.delete(M1)
    await residency.reload(M1)
    expect(models.resolve('m', '1')).not.toBe(old)
    expect(ended).toEqual([M1])
  })

  test('settles when all is loaded that fits, also when that is more than it does in one turn', async () => {
    open({ maxMemoryBytes: 60 * 50 })
    for (let number = 1; number <= 100; number++) wanted.setAsked(`models/many/versions/${number}`, 'endpoint')
    await residency.settled()
    const kinds = [...models].map(({ state }) => state.kind)
    expect([
      kinds.filter((each) => each === 'ready').length,
      kinds.filter((each) => each === 'unloaded').length,
    ]).toEqual([50, 50])
  })
})
