import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Code } from './code.ts'
import { FrameReader, frame } from './framing.ts'
import { MAX_WAITING_MESSAGES, MessageQueue } from './message-queue.ts'
import { formatTimeout, MAX_TIMEOUT_MS, parseTimeout } from './timeout.ts'

describe('FrameReader', () => {
  it('finds the same messages however their bytes are cut', () => {
    const messages = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 12 })
    const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 30 })
    fc.assert(
      fc.property(messages, cuts, (sent, sizes) => {
        const found: Buffer[] = []
        const reader = new FrameReader(300, (message) => found.push(message))
        const bytes = Buffer.concat(sent.map(frame))
        for (let at = 0, turn = 0; at < bytes.length; turn++) {
          const size = sizes[turn % sizes.length] ?? 1
          reader.push(bytes.subarray(at, at + size))
          at += size
        }
        expect(reader.atBoundary).toBe(true)
        expect(found.map((message) => [...message])).toEqual(sent.map((message) => [...message]))
      }),
    )
  })

  it('fails as soon as it reads the length of a message above the limit', () => {
    const reader = new FrameReader(10, () => {})
    expect(() => reader.push(frame(Buffer.alloc(11)).subarray(0, 5))).toThrow(
      expect.objectContaining({ code: Code.RESOURCE_EXHAUSTED }),
    )
  })

  it('fails for bytes that are no frames', () => {
    expect(() => new FrameReader(10, () => {}).push(Buffer.from('hello'))).toThrow(
      expect.objectContaining({ code: Code.INVALID_ARGUMENT, reason: 'MALFORMED_FRAME' }),
    )
  })
})

describe('grpc-timeout', () => {
  it('is never shorter than what was asked, and no more than a second longer', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: MAX_TIMEOUT_MS, noNaN: true }), (timeoutMs) => {
        const header = formatTimeout(timeoutMs)
        expect(header).toMatch(/^\d{1,8}[mS]$/)
        const parsed = parseTimeout(header) ?? -1
        expect(parsed).toBeGreaterThanOrEqual(timeoutMs)
        expect(parsed - timeoutMs).toBeLessThanOrEqual(1000)
      }),
    )
  })

  it('is read in every unit', () => {
    expect(['2H', '3M', '4S', '5m', '6000u', '7000000n'].map(parseTimeout)).toEqual([7_200_000, 180_000, 4000, 5, 6, 7])
    expect(parseTimeout('99999999H')).toBe(MAX_TIMEOUT_MS)
    expect(['', 'm', '5', '123456789m', '-1S', '1.5S', '5 m', '5x'].map(parseTimeout)).toEqual(Array(8).fill(undefined))
  })
})

describe('MessageQueue', () => {
  it('gives messages in order and then the end, and holds its source back while many wait', async () => {
    const calls: string[] = []
    const queue = new MessageQueue<number>({ pause: () => calls.push('pause'), resume: () => calls.push('resume') })
    const count = MAX_WAITING_MESSAGES + 5
    for (let i = 0; i < count; i++) queue.push(i)
    queue.close()
    expect(calls).toEqual(['pause'])
    const found: number[] = []
    for await (const message of queue) found.push(message)
    expect(found).toEqual(Array.from({ length: count }, (_, index) => index))
    expect(calls).toEqual(['pause', 'resume'])
  })

  it('tells a failure after what waits, and an abort before it', async () => {
    const source = { pause: () => {}, resume: () => {} }
    const closed = new MessageQueue<number>(source)
    closed.push(1)
    closed.close({ message: 'late' } as never)
    expect(await closed.next()).toEqual({ done: false, value: 1 })
    await expect(closed.next()).rejects.toEqual({ message: 'late' })
    const aborted = new MessageQueue<number>(source)
    aborted.push(1)
    aborted.close()
    aborted.abort({ message: 'now' } as never)
    await expect(aborted.next()).rejects.toEqual({ message: 'now' })
  })

  it('wakes a reader that waits', async () => {
    const queue = new MessageQueue<number>({ pause: () => {}, resume: () => {} })
    const next = queue.next()
    queue.push(7)
    expect(await next).toEqual({ done: false, value: 7 })
    const last = queue.next()
    queue.close()
    expect(await last).toEqual({ done: true, value: undefined })
  })
})
