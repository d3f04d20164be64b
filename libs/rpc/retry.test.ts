import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Code } from './code.ts'
import { Failure } from './failure.ts'
import { defaultRetryPolicy, type FailedAttempt, parsePushback, RetryBudget, retryDelayMs } from './retry.ts'

const unavailable = (retryAfterMs?: number) =>
  new Failure(Code.UNAVAILABLE, 'LOADING', 'soon', retryAfterMs === undefined ? {} : { retryAfterMs })
const failed = (override: Partial<FailedAttempt> = {}): FailedAttempt => ({
  failure: unavailable(),
  attempt: 1,
  pushback: undefined,
  effect: 'none',
  idempotent: false,
  ...override,
})
const delay = (override: Partial<FailedAttempt>, policy = {}) =>
  retryDelayMs(failed(override), { ...defaultRetryPolicy, ...policy }, () => 0.5)

describe('retryDelayMs', () => {
  it.each([
    ['an unavailable server after a drawn delay', {}, {}, 25],
    ['the third attempt after a longer one', { attempt: 3 }, {}, 100],
    ['a late attempt after the longest one', { attempt: 9 }, { maxAttempts: 10 }, 1000],
    ['after what RetryInfo says', { failure: unavailable(700) }, {}, 700],
    ['after what the pushback says, before RetryInfo', { failure: unavailable(700), pushback: 5 }, {}, 5],
    ['what perhaps had an effect, when it is idempotent', { effect: 'perhaps', idempotent: true }, {}, 25],
    ['what perhaps had an effect, when told to', { effect: 'perhaps' }, { resend: 'always' }, 25],
  ] as const)('retries %s', (_name, attempt, policy, expected) => {
    expect(delay(attempt, policy)).toBe(expected)
  })

  it.each([
    ['the last attempt', { attempt: 4 }, {}],
    ['what perhaps had an effect', { effect: 'perhaps' }, {}],
    ['a server that asks not to', { pushback: 'never' }, {}],
    ['a full queue', { failure: new Failure(Code.RESOURCE_EXHAUSTED, 'FULL', 'full') }, {}],
    ['a conflict', { failure: new Failure(Code.ABORTED, 'ETAG', 'stale') }, {}],
    ['a passed deadline', { failure: new Failure(Code.DEADLINE_EXCEEDED, 'D', 'late') }, {}],
  ] as const)('does not retry %s', (_name, attempt, policy) => {
    expect(delay(attempt, policy)).toBeUndefined()
  })

  it('never draws more than the bound of the attempt', () => {
    const arbitrary = [fc.integer({ min: 1, max: 20 }), fc.double({ min: 0, max: 1, noNaN: true })] as const
    fc.assert(
      fc.property(...arbitrary, (attempt, random) => {
        const policy = { ...defaultRetryPolicy, maxAttempts: 21 }
        const drawn = retryDelayMs(failed({ attempt }), policy, () => random) ?? -1
        return drawn >= 0 && drawn <= Math.min(policy.maxBackoffMs, policy.initialBackoffMs * 2 ** (attempt - 1))
      }),
    )
  })
})

describe('RetryBudget', () => {
  it('never lets more retries run than its share of the calls, or the few that are always allowed', () => {
    const steps = fc.array(fc.constantFrom('enter', 'leave', 'take', 'giveBack'), { maxLength: 400 })
    fc.assert(
      fc.property(steps, (sequence) => {
        const budget = new RetryBudget({ ...defaultRetryPolicy, minConcurrentRetries: 1 })
        let calls = 0
        let retries = 0
        for (const step of sequence) {
          if (step === 'enter') {
            budget.enter()
            calls++
          } else if (step === 'leave' && calls > 0) {
            budget.leave()
            calls--
          } else if (step === 'giveBack' && retries > 0) {
            budget.giveBack()
            retries--
          } else if (step === 'take') {
            const allowed = retries < Math.max(1, Math.floor(calls * 0.2))
            if (budget.take() !== allowed) return false
            if (allowed) retries++
          }
        }
        return true
      }),
    )
  })
})

it('reads a pushback', () => {
  expect([undefined, '0', '250', '-1', 'soon', ''].map(parsePushback)).toEqual([
    undefined,
    0,
    250,
    'never',
    'never',
    'never',
  ])
})
