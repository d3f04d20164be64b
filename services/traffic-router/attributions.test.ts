import { describe, expect, test } from 'vitest'
import { type Attribution, type AttributionLimits, Attributions } from './attributions.ts'

const limits: AttributionLimits = { timeoutMs: 60_000, maxInFlight: 2, maxWaiting: 3, maxWaitingBytes: 100 }
const attribution: Attribution = { values: [1], baseValue: 0 }
const quiet = { warn: () => {} }

/** Explanations that end when the test says, and what was heard of them, in order. */
function questions(change: Partial<AttributionLimits> = {}) {
  const attributions = new Attributions({ ...limits, ...change }, quiet)
  const asked: { readonly name: string; readonly end: (failure?: Error) => void }[] = []
  const heard: [string, boolean][] = []
  const hand = (name: string, sizeBytes = 1): void =>
    attributions.explain({
      sizeBytes,
      ask: () =>
        new Promise((resolve, reject) => {
          asked.push({ name, end: (failure) => (failure === undefined ? resolve([attribution]) : reject(failure)) })
        }),
      done: (rows) => heard.push([name, rows !== undefined]),
    })
  return { attributions, asked, heard, hand }
}

const turn = async (): Promise<void> => await new Promise((resolve) => setImmediate(resolve))

describe('attributions', () => {
  test('are asked for in order, so many at once, and heard of when they come', async () => {
    const { asked, heard, hand } = questions()
    for (const name of ['a', 'b', 'c']) hand(name)
    expect(asked.map(({ name }) => name)).toEqual(['a', 'b'])
    asked[1]?.end()
    await turn()
    expect(heard).toEqual([['b', true]])
    expect(asked.map(({ name }) => name)).toEqual(['a', 'b', 'c'])
  })

  test('that fail leave the prediction to be logged without', async () => {
    const { attributions, asked, heard, hand } = questions()
    hand('a')
    asked[0]?.end(new Error('inference is away'))
    await turn()
    expect(heard).toEqual([['a', false]])
    expect(attributions.unexplainedCount).toBe(1)
  })

  test('that find no room are given up at once, by number and by bytes', () => {
    const { attributions, heard, hand } = questions()
    for (const name of ['a', 'b', 'c', 'd', 'e', 'f']) hand(name)
    expect(heard).toEqual([['f', false]])
    const large = questions()
    for (const name of ['a', 'b']) large.hand(name, 90)
    large.hand('c', 90)
    large.hand('d', 90)
    expect(large.heard).toEqual([['d', false]])
    expect(attributions.unexplainedCount + large.attributions.unexplainedCount).toBe(2)
  })

  test('that wait too long are given up where they stand', async () => {
    const { asked, heard, hand } = questions({ timeoutMs: 20, maxInFlight: 1 })
    for (const name of ['a', 'b', 'c']) hand(name)
    await expect
      .poll(() => heard)
      .toEqual([
        ['b', false],
        ['c', false],
      ])
    asked[0]?.end()
    await turn()
    expect(heard.at(-1)).toEqual(['a', true])
    expect(asked.length).toBe(1)
  })

  test('are all heard of when it ends, each once', async () => {
    const { attributions, asked, heard, hand } = questions()
    for (const name of ['a', 'b', 'c', 'd']) hand(name)
    attributions.close()
    expect(heard.map(([name]) => name).toSorted()).toEqual(['a', 'b', 'c', 'd'])
    for (const { end } of asked) end()
    hand('e')
    await turn()
    expect(heard.length).toBe(5)
    expect(heard.every(([, isExplained]) => !isExplained)).toBe(true)
    expect(asked.length).toBe(2)
  })
})
