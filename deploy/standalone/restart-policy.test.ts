import { expect, test } from 'vitest'
import { afterDeath, settledAfterMs } from './restart-policy.ts'

test('the delay doubles with each quick death, up to ten seconds', () => {
  let state = { quickDeaths: 0 }
  const delays = Array.from({ length: 8 }, () => {
    const next = afterDeath(state, 10)
    state = next.state
    return next.delayMs
  })
  expect(delays).toEqual([200, 400, 800, 1600, 3200, 6400, 10_000, 10_000])
})

test('a process that had settled is started again at once', () => {
  expect(afterDeath({ quickDeaths: 7 }, settledAfterMs)).toEqual({ state: { quickDeaths: 1 }, delayMs: 200 })
})
