import { expect, test } from 'vitest'
import { nextRestart, type RestartPolicy } from './restart-policy.ts'

const policy: RestartPolicy = { firstDelayMs: 100, maxDelayMs: 1000, maxDeaths: 6, windowMs: 60_000 }

test.each([
  ['the first death', [0], { kind: 'restart', delayMs: 100 }],
  ['the second', [0, 0], { kind: 'restart', delayMs: 200 }],
  ['the fifth, bounded', [0, 0, 0, 0, 0], { kind: 'restart', delayMs: 1000 }],
  ['one too many', [0, 0, 0, 0, 0, 0], { kind: 'quarantine' }],
  ['many long ago', [-70_000, -70_000, -70_000, -70_000, -70_000, -70_000, 0], { kind: 'restart', delayMs: 100 }],
] as const)('%s', (_, deaths, action) => {
  expect(nextRestart(deaths, 0, policy)).toEqual(action)
})
