import { expect, test } from 'vitest'
import { CallSize } from './call-size.ts'

/** The size after so many calls of a server that takes `msPerRow` for a row, and `hiccup` for some of them. */
function sizeAfter(calls: number, msPerRow: number, hiccup: (call: number) => number = () => 0): number {
  const size = new CallSize()
  for (let call = 0; call < calls; call++) size.observe(size.rows, size.rows * msPerRow + hiccup(call))
  return size.rows
}

test('calls grow to what takes some tens of milliseconds', () => {
  expect(sizeAfter(1, 0.001)).toBe(512)
  expect(sizeAfter(20, 0.005)).toBeGreaterThan(4000)
  expect(sizeAfter(20, 0.005)).toBeLessThanOrEqual(5000)
})

test('a slow model gets small calls, but never none', () => {
  expect(sizeAfter(20, 1)).toBe(25)
  expect(sizeAfter(20, 100)).toBe(16)
})

test('calls that others hold up now and then do not make the next ones small', () => {
  expect(sizeAfter(60, 0.005, (call) => (call % 3 === 0 ? 0 : 200))).toBeGreaterThan(3500)
})

test('a server that became slower gets smaller calls', () => {
  const size = new CallSize()
  for (let call = 0; call < 20; call++) size.observe(size.rows, size.rows * 0.005)
  for (let call = 0; call < 60; call++) size.observe(size.rows, size.rows * 0.05)
  expect(size.rows).toBe(500)
})
