import { expect, test } from 'vitest'
import { createTurns } from './turns.ts'

test('work runs one after another, in the order in which it came, whatever fails', async () => {
  const turns = createTurns()
  const log: string[] = []
  const work = (name: string, fails = false) =>
    turns.take(async () => {
      log.push(`${name} begins`)
      await new Promise(setImmediate)
      log.push(`${name} ends`)
      if (fails) throw new Error(name)
      return name
    })
  const settled = await Promise.allSettled([work('a'), work('b', true), work('c')])
  expect(settled.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
  expect(log).toEqual(['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends'])
})

test('work that is given up while it waits rejects at once and never begins; what follows it still runs', async () => {
  const turns = createTurns()
  const gate = Promise.withResolvers<void>()
  const first = turns.take(() => gate.promise)
  const controller = new AbortController()
  let begun = false
  const waiting = turns.take(async () => {
    begun = true
  }, controller.signal)
  const last = turns.take(async () => 'last')
  controller.abort(new Error('given up'))
  await expect(waiting).rejects.toThrow('given up')
  gate.resolve()
  await first
  expect(await last).toBe('last')
  expect(begun).toBe(false)
})

test('work that has begun is not cut off', async () => {
  const turns = createTurns()
  const controller = new AbortController()
  const work = turns.take(async () => {
    controller.abort(new Error('too late'))
    await new Promise(setImmediate)
    return 'done'
  }, controller.signal)
  expect(await work).toBe('done')
  await expect(turns.take(async () => 'x', controller.signal)).rejects.toThrow('too late')
})
