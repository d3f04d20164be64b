import { describe, expect, test } from 'vitest'
import { nextAction, type ResidencyPolicy, type VersionSnapshot } from './residency.ts'

const policy: ResidencyPolicy = { maxLoading: 2, idleMs: 1000, maxLoadedBytes: 100, retryMs: 50, maxRetryMs: 400 }
const NOW = 10_000

/** `m/1` in a state, changed. */
function version(name: string, change: Partial<VersionSnapshot> = {}): VersionSnapshot {
  const [model = ''] = name.split('/')
  const rest = { isAliased: false, isPinned: false, sizeBytes: 10, lastUsedMs: NOW, failures: 0, failedMs: 0 }
  return { name, model, state: 'ready', ...rest, ...change }
}

const aliased = { isAliased: true } as const
const pinned = { isPinned: true } as const
const absent = { state: 'absent' } as const
const loading = { state: 'loading' } as const
const idle = { lastUsedMs: NOW - 1000 } as const
const failed = (failures: number, ago: number) => ({ state: 'failed', failures, failedMs: NOW - ago }) as const
const wait = (untilMs: number) => ({ kind: 'wait', untilMs })
const load = (name: string) => ({ kind: 'load', name })
const unload = (name: string, reason: 'idle' | 'memory') => ({ kind: 'unload', name, reason })

describe('nextAction', () => {
  const cases: readonly (readonly [string, readonly VersionSnapshot[], object])[] = [
    ['nothing known: nothing to do', [], wait(Number.POSITIVE_INFINITY)],
    ['an alias points to what is absent: load', [version('m/1', { ...absent, ...aliased })], load('m/1')],
    ['asked for and absent: load', [version('m/1', { ...absent, ...pinned })], load('m/1')],
    ['absent and not wanted: nothing', [version('m/1', absent)], wait(Number.POSITIVE_INFINITY)],
    [
      'aliased goes before asked for',
      [version('m/1', { ...absent, ...pinned }), version('m/2', { ...absent, ...aliased })],
      load('m/2'),
    ],
    [
      'no more than two at a time',
      [
        version('m/1', { ...loading, ...aliased }),
        version('n/1', { ...loading, ...aliased }),
        version('o/1', { ...absent, ...aliased }),
      ],
      wait(Number.POSITIVE_INFINITY),
    ],
    ['a failed load waits its time', [version('m/1', { ...failed(2, 60), ...aliased })], wait(NOW + 40)],
    ['and is tried again after it', [version('m/1', { ...failed(2, 100), ...aliased })], load('m/1')],
    ['the wait is bounded', [version('m/1', { ...failed(30, 400), ...aliased })], load('m/1')],
    ['ready, idle, no alias: let go', [version('m/1', { ...idle, ...pinned })], unload('m/1', 'idle')],
    ['ready, idle, aliased: stays', [version('m/1', { ...idle, ...aliased })], wait(Number.POSITIVE_INFINITY)],
    ['in use: stays until it has been idle', [version('m/1', { ...pinned, lastUsedMs: NOW - 400 })], wait(NOW + 600)],
    [
      'the only one that answers stays while its successor loads',
      [version('m/1', idle), version('m/2', { ...loading, ...aliased })],
      wait(Number.POSITIVE_INFINITY),
    ],
    [
      'and while its successor fails to load',
      [version('m/1', idle), version('m/2', { ...failed(1, 10), ...aliased })],
      wait(NOW + 40),
    ],
    ['and goes once its successor answers', [version('m/1', idle), version('m/2', aliased)], unload('m/1', 'idle')],
    [
      'too many bytes: the longest unused goes',
      [
        version('m/1', { ...aliased, sizeBytes: 90 }),
        version('n/1', { ...pinned, lastUsedMs: NOW - 5 }),
        version('o/1', { ...pinned, lastUsedMs: NOW - 9 }),
      ],
      unload('o/1', 'memory'),
    ],
    [
      'too many bytes, all aliased: they stay',
      [version('m/1', { ...aliased, sizeBytes: 900 })],
      wait(Number.POSITIVE_INFINITY),
    ],
    ['unloading is left alone', [version('m/1', { ...idle, state: 'unloading' })], wait(Number.POSITIVE_INFINITY)],
  ]
  test.each(cases)('%s', (_, versions, action) => {
    expect(nextAction(versions, NOW, policy)).toEqual(action)
    expect(nextAction([...versions].reverse(), NOW, policy)).toEqual(action)
  })
})
