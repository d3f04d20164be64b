import fc from 'fast-check'
import { expect, test } from 'vitest'
import { nextAction, type ResidencyPolicy, type VersionSnapshot, type Want } from './residency.ts'

/** A world in which decisions are carried out, with versions of sizes and callers by chance. */
class World {
  readonly policy: ResidencyPolicy
  readonly versions: Map<string, VersionSnapshot>
  readonly loads: string[] = []
  nowMs = 1000

  constructor(policy: ResidencyPolicy, versions: readonly VersionSnapshot[]) {
    this.policy = policy
    this.versions = new Map(versions.map((version) => [version.name, version]))
  }

  change(name: string, change: Partial<VersionSnapshot>): void {
    const before = this.versions.get(name)
    if (before !== undefined) this.versions.set(name, { ...before, ...change })
  }

  residentBytes(...states: readonly string[]): number {
    return [...this.versions.values()].reduce(
      (sum, { state, memoryBytes = 0 }) => sum + (states.includes(state) ? memoryBytes : 0),
      0,
    )
  }

  /** Acts until there is nothing to do now; then what was begun ends. */
  act(): void {
    for (let steps = 0; ; steps++) {
      if (steps > 1000) throw new Error('it does not come to rest')
      const action = nextAction([...this.versions.values()], this.nowMs, this.policy)
      if (action.kind === 'wait') break
      const { name } = action
      if (action.kind === 'load') this.#load(name)
      if (action.kind === 'unload') this.#unload(name)
      if (action.kind === 'defer') this.change(name, { state: 'unloaded' })
      if (action.kind === 'refuse')
        this.change(name, { state: 'failed', failures: 1, failedMs: this.nowMs, demandedMs: undefined })
      if (action.kind === 'forget') this.versions.delete(name)
    }
    for (const { name, state, wantedBy } of [...this.versions.values()]) {
      if (state === 'loading') this.change(name, { state: 'ready', demandedMs: undefined, lastUsedMs: this.nowMs })
      if (state === 'unloading' && wantedBy.length > 0) this.change(name, { state: 'unloaded' })
      else if (state === 'unloading') this.versions.delete(name)
    }
  }

  #load(name: string): void {
    const version = this.versions.get(name)
    const neededBytes = version?.memoryBytes ?? 0
    const afterBytes = this.residentBytes('ready', 'loading', 'unloading') + neededBytes
    const isSuccessor = version?.wantedBy.includes('alias') === true
    const leaving = [...this.versions.values()].filter(({ state, model, wantedBy, isHeld }) => {
      const isPredecessor = state === 'ready' && model === version?.model && !wantedBy.includes('alias') && !isHeld
      return isSuccessor && (isPredecessor || state === 'unloading')
    })
    const leavingBytes = leaving.reduce((sum, { memoryBytes = 0 }) => sum + memoryBytes, 0)
    expect(afterBytes - leavingBytes).toBeLessThanOrEqual(this.policy.maxMemoryBytes)
    this.loads.push(name)
    this.change(name, { state: 'loading' })
  }

  #unload(name: string): void {
    const version = this.versions.get(name)
    expect(version).toMatchObject({ state: 'ready', isBusy: false, isHeld: false })
    this.change(name, { state: 'unloading' })
  }
}

const policy: ResidencyPolicy = {
  maxLoading: 2,
  maxMemoryBytes: 100,
  idleMs: 500,
  aliasedIdleMs: 2000,
  unwantedIdleMs: 100,
  keepMs: 20,
  maxDemandMs: 300,
  maxUnloaded: 100,
  retryMs: 50,
  maxRetryMs: 400,
}

const wants = fc.constantFrom<readonly Want[]>([], ['alias'], ['endpoint'], ['request'])
const versions = fc
  .array(
    fc.record({
      model: fc.constantFrom('m', 'n', 'o'),
      wantedBy: wants,
      memoryBytes: fc.integer({ min: 1, max: 110 }),
      isHeld: fc.boolean(),
    }),
    { maxLength: 8 },
  )
  .map((list) =>
    list.map(
      ({ isHeld, ...rest }, index): VersionSnapshot => ({
        ...rest,
        name: `${rest.model}/${index}`,
        state: 'absent',
        isHeld: isHeld && index % 4 === 0,
        isBusy: false,
        lastUsedMs: 0,
        demandedMs: undefined,
        failures: 0,
        failedMs: 0,
      }),
    ),
  )
const events = fc.array(
  fc.record({
    kind: fc.constantFrom('call', 'busy', 'rest', 'alias', 'time'),
    at: fc.nat(7),
    ms: fc.integer({ min: 1, max: 700 }),
  }),
  { maxLength: 40 },
)

function happen(world: World, { kind, at, ms }: { kind: string; at: number; ms: number }): void {
  const version = [...world.versions.values()][at % Math.max(1, world.versions.size)]
  if (kind === 'time' || version === undefined) world.nowMs += ms
  else if (kind === 'busy') world.change(version.name, { isBusy: version.state === 'ready' })
  else if (kind === 'rest') world.change(version.name, { isBusy: false })
  else if (kind === 'alias') {
    for (const { name, model, wantedBy } of world.versions.values()) {
      if (model === version.model && wantedBy.includes('alias')) world.change(name, { wantedBy: [] })
    }
    world.change(version.name, { wantedBy: ['alias'] })
  } else if (version.state === 'ready') world.change(version.name, { lastUsedMs: world.nowMs })
  else if (version.wantedBy.length > 0) world.change(version.name, { demandedMs: version.demandedMs ?? world.nowMs })
}

test('whatever happens, what is loaded fits the memory, but for a successor beside its predecessor; what is in use stays', () => {
  fc.assert(
    fc.property(versions, events, (initial, story) => {
      const world = new World(policy, initial)
      world.act()
      for (const event of story) {
        happen(world, event)
        world.act()
      }
      // With nobody in the way it ends within the budget.
      for (const { name } of [...world.versions.values()]) world.change(name, { isBusy: false, isHeld: false })
      for (let step = 0; step < 100; step++) {
        world.nowMs += 100
        world.act()
      }
      expect(world.residentBytes('ready', 'loading')).toBeLessThanOrEqual(policy.maxMemoryBytes)
    }),
  )
})

test('without callers it comes to rest: nothing that was let go is loaded again', () => {
  fc.assert(
    fc.property(versions, events, (initial, story) => {
      const world = new World(policy, initial)
      for (const event of story) {
        happen(world, event)
        world.act()
      }
      for (const { name } of [...world.versions.values()])
        world.change(name, { isBusy: false, isHeld: false, demandedMs: undefined })
      const before = world.loads.length
      for (let step = 0; step < 200; step++) {
        world.nowMs += 50
        world.act()
      }
      const loaded = world.loads.slice(before)
      expect(new Set(loaded).size).toBe(loaded.length)
    }),
  )
})
