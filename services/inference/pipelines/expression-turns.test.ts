import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { ExpressionTurns, MAX_TURN_MS } from './expression-turns.ts'

/** A clock that only moves when a piece is done, and pieces that take so long each. */
function clock() {
  let nowMs = 0
  const done: string[] = []
  const pieces = (name: string, count: number, tookMs: number) => {
    let left = count
    return {
      next: () => {
        if (left-- === 0) return { done: true as const, value: undefined }
        nowMs += tookMs
        done.push(name)
        return { done: false as const, value: undefined }
      },
    }
  }
  return { turns: new ExpressionTurns(() => nowMs), pieces, done, now: () => nowMs }
}

describe('expressions in turns of the event loop', () => {
  test('what fits into the turn in which it comes is done in it', () => {
    const { turns, pieces, done } = clock()
    turns.run(pieces('a', 2, MAX_TURN_MS / 4))
    expect(done).toEqual(['a', 'a'])
  })

  test('no turn takes more than its time and one piece, whoever asks', async () => {
    const { turns, pieces, now } = clock()
    const all = Array.from({ length: 5 }, (_, index) => turns.run(pieces(`${index}`, 10, MAX_TURN_MS / 2.5)))
    expect(now()).toBeLessThanOrEqual(1.4 * MAX_TURN_MS)
    let before = now()
    let longest = 0
    const watch = (async () => {
      while (now() < 20 * MAX_TURN_MS - 0.1) {
        await nextTurn()
        longest = Math.max(longest, now() - before)
        before = now()
      }
    })()
    await Promise.all([...all, watch])
    // A turn of the watch may see the end of one turn and the beginning of the next.
    expect(longest).toBeLessThanOrEqual(2 * 1.4 * MAX_TURN_MS)
  })

  test('who wants little does not wait for who wants much', async () => {
    const { turns, pieces, done } = clock()
    const large = turns.run(pieces('large', 100, MAX_TURN_MS))
    await turns.run(pieces('small', 1, MAX_TURN_MS))
    expect(done.length).toBeLessThan(10)
    await large
  })

  test('work in the background gets little while other work waits, but gets it', async () => {
    const { turns, pieces, done } = clock()
    const background = turns.run(pieces('background', 100, MAX_TURN_MS / 4), true)
    await turns.run(pieces('urgent', 70, MAX_TURN_MS / 4))
    const between = done.slice(done.indexOf('urgent'))
    const share = between.filter((name) => name === 'background').length / between.length
    expect(share).toBeGreaterThan(0.05)
    expect(share).toBeLessThan(0.2)
    await background
  })

  test('what a piece throws fails its own work only', async () => {
    const { turns, pieces, done } = clock()
    const failing = turns.run({
      next: () => {
        throw new Error('broken')
      },
    })
    const other = turns.run(pieces('b', 1, 1))
    await expect(failing).rejects.toThrow('broken')
    await other
    expect(done).toEqual(['b'])
  })
})
