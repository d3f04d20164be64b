import { describe, expect, test } from 'vitest'
import { nextAction, type ResidencyPolicy, type VersionSnapshot } from './residency.ts'

const policy: ResidencyPolicy = {
  maxLoading: 2,
  maxMemoryBytes: 100,
  idleMs: 1000,
  aliasedIdleMs: Number.POSITIVE_INFINITY,
  unwantedIdleMs: 500,
  keepMs: 100,
  maxDemandMs: 5000,
  maxUnloaded: 2,
  retryMs: 50,
  maxRetryMs: 400,
}
const NOW = 10_000
const NEVER = Number.POSITIVE_INFINITY

/** `m/1`, ready and used long ago, changed. */
function version(name: string, change: Partial<VersionSnapshot> = {}): VersionSnapshot {
  const [model = ''] = name.split('/')
  return {
    name,
    model,
    state: 'ready',
    wantedBy: [],
    isHeld: false,
    isBusy: false,
    memoryBytes: 10,
    lastUsedMs: NOW - 300,
    demandedMs: undefined,
    failures: 0,
    failedMs: 0,
    ...change,
  }
}

const aliased = { wantedBy: ['alias'] } as const
const asked = { wantedBy: ['request'] } as const
const routed = { wantedBy: ['endpoint'] } as const
const absent = { state: 'absent' } as const
const unloaded = { state: 'unloaded' } as const
const loading = { state: 'loading' } as const
const demanded = { demandedMs: NOW - 10 } as const
const idle = { lastUsedMs: NOW - 1000 } as const
const recent = { lastUsedMs: NOW - 50 } as const
const large = { memoryBytes: 60 } as const
const failed = (failures: number, ago: number) => ({ state: 'failed', failures, failedMs: NOW - ago }) as const
const wait = (untilMs: number) => ({ kind: 'wait', untilMs })
const load = (name: string) => ({ kind: 'load', name })
const unload = (name: string, reason: 'idle' | 'memory' | 'unwanted') => ({ kind: 'unload', name, reason })

type Case = readonly [string, readonly VersionSnapshot[], object, Partial<ResidencyPolicy>?]

function check(versions: readonly VersionSnapshot[], action: object, change: Partial<ResidencyPolicy> = {}) {
  expect(nextAction(versions, NOW, { ...policy, ...change })).toEqual(action)
  expect(nextAction([...versions].reverse(), NOW, { ...policy, ...change })).toEqual(action)
}

describe('loading', () => {
  const cases: readonly Case[] = [
    ['nothing known: nothing to do', [], wait(NEVER)],
    ['an alias points to what is absent: load', [version('m/1', { ...absent, ...aliased })], load('m/1')],
    ['asked for and absent: load', [version('m/1', { ...absent, ...asked })], load('m/1')],
    ['absent and not wanted: nothing', [version('m/1', absent)], wait(NEVER)],
    [
      'of unknown size: ask first',
      [version('m/1', { ...absent, ...aliased, memoryBytes: undefined })],
      { kind: 'measure', name: 'm/1' },
    ],
    ['being asked: wait', [version('m/1', { state: 'measuring', ...aliased, memoryBytes: undefined })], wait(NEVER)],
    [
      'aliased goes before routed, routed before asked for',
      [
        version('m/1', { ...absent, ...asked }),
        version('m/2', { ...absent, ...aliased }),
        version('m/3', { ...absent, ...routed }),
      ],
      load('m/2'),
    ],
    [
      'for a caller who waits before all others',
      [version('m/1', { ...unloaded, ...asked, ...demanded }), version('m/2', { ...absent, ...aliased })],
      load('m/1'),
    ],
    [
      'no more than two at a time',
      [
        version('m/1', { ...loading, ...aliased }),
        version('n/1', { ...loading, ...aliased }),
        version('o/1', { ...absent, ...aliased }),
      ],
      wait(NEVER),
    ],
    [
      'but for one that those on their way need',
      [
        version('m/1', { ...loading, ...aliased }),
        version('n/1', { ...loading, ...aliased }),
        version('o/1', { ...absent, isHeld: true }),
      ],
      load('o/1'),
    ],
    ['let go and nobody asks: it stays away', [version('m/1', { ...unloaded, ...aliased })], wait(NEVER)],
    ['let go and a caller asks: load', [version('m/1', { ...unloaded, ...asked, ...demanded })], load('m/1')],
    ['a failed load waits its time', [version('m/1', { ...failed(2, 60), ...aliased })], wait(NOW + 40)],
    ['for callers, too', [version('m/1', { ...failed(2, 60), ...aliased, ...demanded })], wait(NOW + 40)],
    ['and is tried again after it', [version('m/1', { ...failed(2, 100), ...aliased })], load('m/1')],
    ['the wait is bounded', [version('m/1', { ...failed(30, 400), ...aliased })], load('m/1')],
  ]
  for (const [title, ...rest] of cases) test(title, () => check(...rest))
})

describe('letting go', () => {
  const cases: readonly Case[] = [
    ['idle and asked for: let go', [version('m/1', { ...idle, ...asked })], unload('m/1', 'idle')],
    ['idle and aliased: stays', [version('m/1', { ...idle, ...aliased })], wait(NEVER)],
    [
      'unless the policy says so',
      [version('m/1', { ...idle, ...aliased })],
      unload('m/1', 'idle'),
      { aliasedIdleMs: 1000 },
    ],
    ['not idle for long: stays until it is', [version('m/1', { ...asked, lastUsedMs: NOW - 400 })], wait(NOW + 600)],
    ['requests wait for it: stays', [version('m/1', { ...idle, ...asked, isBusy: true })], wait(NOW + 100)],
    ['another needs it: stays', [version('m/1', { ...idle, isHeld: true })], wait(NEVER)],
    ['nobody wants it any more: goes sooner', [version('m/1', { lastUsedMs: NOW - 500 })], unload('m/1', 'unwanted')],
    [
      'the only one that answers stays while its successor loads',
      [version('m/1', idle), version('m/2', { ...loading, ...aliased })],
      wait(NEVER),
    ],
    [
      'and while its successor fails to load',
      [version('m/1', idle), version('m/2', { ...failed(1, 10), ...aliased })],
      wait(NOW + 40),
    ],
    ['and goes once its successor answers', [version('m/1', idle), version('m/2', aliased)], unload('m/1', 'unwanted')],
    ['unloading is left alone', [version('m/1', { ...idle, state: 'unloading' })], wait(NEVER)],
    [
      'too many are remembered: the longest unused without an alias is forgotten',
      [
        version('m/1', { ...unloaded, ...aliased, lastUsedMs: 0 }),
        version('n/1', { ...unloaded, ...asked, lastUsedMs: 2 }),
        version('o/1', { ...unloaded, ...asked, lastUsedMs: 1 }),
      ],
      { kind: 'forget', name: 'o/1' },
    ],
  ]
  for (const [title, ...rest] of cases) test(title, () => check(...rest))
})

describe('memory', () => {
  const rival = (change: Partial<VersionSnapshot>) => version('n/1', { ...large, ...aliased, ...change })
  const wanted = (change: Partial<VersionSnapshot>) => version('m/1', { ...large, ...aliased, ...change })
  const cases: readonly Case[] = [
    [
      'no room and nobody waits: known, to come when asked',
      [rival({}), wanted(absent)],
      { kind: 'defer', name: 'm/1' },
    ],
    [
      'no room and a caller waits: the unused goes',
      [rival({}), wanted({ ...unloaded, ...demanded })],
      unload('n/1', 'memory'),
    ],
    [
      'but not the one that is in use',
      [rival({ isBusy: true }), wanted({ ...unloaded, ...demanded })],
      wait(NOW + 100),
    ],
    ['nor the one that just was', [rival(recent), wanted({ ...unloaded, ...demanded })], wait(NOW + 100)],
    ['nor one that another needs', [rival({ isHeld: true }), wanted({ ...unloaded, ...demanded })], wait(NOW + 100)],
    [
      'who waited too long is told',
      [rival({ isBusy: true }), wanted({ ...unloaded, demandedMs: NOW - 5000 })],
      { kind: 'refuse', name: 'm/1', neededBytes: 60 },
    ],
    [
      'what can never fit is refused',
      [wanted({ ...absent, memoryBytes: 101 })],
      { kind: 'refuse', name: 'm/1', neededBytes: 101 },
    ],
    [
      'without a caller only what is wanted less gives way',
      [version('n/1', { ...large, ...asked }), wanted(absent)],
      unload('n/1', 'memory'),
    ],
    [
      'what is on its way out is waited for, and nothing more let go',
      [rival({ state: 'unloading' }), version('o/1', asked), wanted({ ...unloaded, ...demanded })],
      wait(NOW + 100),
    ],
    [
      'what is wanted least goes first, then what was unused for longest',
      [
        version('n/1', { ...aliased, memoryBytes: 40, lastUsedMs: NOW - 900 }),
        version('o/1', { ...asked, memoryBytes: 30, lastUsedMs: NOW - 400 }),
        version('p/1', { ...asked, memoryBytes: 30, lastUsedMs: NOW - 500 }),
        wanted({ ...unloaded, ...demanded, memoryBytes: 30 }),
      ],
      unload('p/1', 'memory'),
    ],
    [
      'a successor is loaded before its predecessor goes, even above the budget',
      [version('m/0', { ...large, isBusy: true }), wanted(absent)],
      load('m/1'),
    ],
    [
      'and then the predecessor goes',
      [version('m/0', { ...large, ...recent }), wanted(recent)],
      unload('m/0', 'memory'),
    ],
    [
      'what turned out larger than it looked: the least wanted goes',
      [rival({}), version('m/1', { ...large, ...asked })],
      unload('m/1', 'memory'),
    ],
    [
      'behind one that waits for room, what fits is loaded',
      [rival({ isBusy: true }), wanted({ ...unloaded, ...demanded }), version('o/1', { ...absent, ...asked })],
      load('o/1'),
    ],
    [
      'a successor that finds no room waits, and the version before it answers',
      [version('m/0', { memoryBytes: 30 }), rival({}), wanted({ ...absent, memoryBytes: 90 })],
      wait(NOW + 100),
    ],
  ]
  for (const [title, ...rest] of cases) test(title, () => check(...rest))
})
