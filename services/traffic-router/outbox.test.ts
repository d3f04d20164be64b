import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { EventRecord } from '@slipway/events'
import { Code } from '@slipway/rpc'
import { logger } from '@slipway/telemetry'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Outbox } from './outbox.ts'
import { decodeFrames, encodeFrame } from './outbox-frames.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'slipway-outbox-'))
})
afterEach(async () => await rm(directory, { recursive: true, force: true }))

/** A bus that keeps keys, and can be away. */
class FakeBus {
  readonly keys: string[] = []
  isAway = false
  async publish(records: readonly EventRecord[]): Promise<void> {
    if (this.isAway) throw new Error('the bus is away')
    this.keys.push(...records.map((record) => record.key))
  }
}

const record = (key: string): EventRecord => ({
  topic: 'slipway.feedback.v1',
  key,
  value: Buffer.from(key),
  headers: { ce_id: key },
})
const log = logger('test')
const open = async (bus: FakeBus, maxBytes = 1_000_000): Promise<Outbox> =>
  await Outbox.open({ directory, bus, maxBytes, log })

describe('Outbox', () => {
  test('records reach the bus in order and leave the disk', async () => {
    const bus = new FakeBus()
    const outbox = await open(bus)
    for (const key of ['a', 'b', 'c']) await outbox.append([record(key), record(`${key}2`)])
    await expect.poll(() => bus.keys).toEqual(['a', 'a2', 'b', 'b2', 'c', 'c2'])
    await expect.poll(() => outbox.sizeBytes).toBe(0)
    await outbox.close()
    expect(await readdir(directory)).toEqual([])
  })

  test('many calls at once are all kept and delivered', async () => {
    const bus = new FakeBus()
    const outbox = await open(bus)
    const keys = Array.from({ length: 500 }, (_, index) => `key-${index}`)
    await Promise.all(keys.map(async (key) => await outbox.append([record(key)])))
    await expect.poll(() => bus.keys.length).toBe(500)
    expect(new Set(bus.keys)).toEqual(new Set(keys))
    await outbox.close()
  })

  test('calls that come without a pause do not hold up delivery', async () => {
    const bus = new FakeBus()
    const outbox = await open(bus)
    let calls = 0
    const caller = async (): Promise<void> => {
      while (bus.keys.length === 0 && calls < 2_000) await outbox.append([record(`key-${calls++}`)])
    }
    await Promise.all(Array.from({ length: 8 }, caller))
    expect(calls).toBeLessThan(2_000)
    await outbox.close()
  })

  test('what was acknowledged while the bus was away is delivered by the next process', async () => {
    const away = new FakeBus()
    away.isAway = true
    const first = await open(away)
    await first.append([record('a')])
    await first.append([record('b')])
    await first.close()
    const bus = new FakeBus()
    const second = await open(bus)
    await expect.poll(() => bus.keys).toEqual(['a', 'b'])
    await second.close()
  })

  test('a frame that was cut off by a crash is left out, the frames before it are not', async () => {
    const whole = encodeFrame([record('a')])
    const path = join(directory, '000000000007.log')
    for (let cut = 1; cut < whole.length; cut += 7) {
      await writeFile(path, Buffer.concat([whole, whole]))
      await truncate(path, whole.length * 2 - cut)
      expect(decodeFrames(await readFile(path)).map((each) => each.key)).toEqual(['a'])
    }
    const bus = new FakeBus()
    const outbox = await open(bus)
    await outbox.append([record('b')])
    await expect.poll(() => bus.keys).toEqual(['a', 'b'])
    await outbox.close()
  })

  test('a call beyond the bound is RESOURCE_EXHAUSTED and keeps nothing', async () => {
    const bus = new FakeBus()
    bus.isAway = true
    const outbox = await open(bus, 200)
    await outbox.append([record('a')])
    const size = outbox.sizeBytes
    const refused = outbox.append([record('x'.repeat(300))])
    await expect(refused).rejects.toMatchObject({ code: Code.RESOURCE_EXHAUSTED, reason: 'FEEDBACK_OUTBOX_FULL' })
    expect(outbox.sizeBytes).toBe(size)
    bus.isAway = false
    await expect.poll(() => bus.keys).toEqual(['a'])
    await outbox.close()
  })

  test('topic, key, value and headers come out as they went in', () => {
    const records = [record('ä'), { ...record('b'), value: Buffer.from([0, 255, 128]), headers: {} }]
    const decoded = decodeFrames(Buffer.concat([encodeFrame(records), encodeFrame([record('c')])]))
    expect(decoded.map((each) => ({ ...each, value: Buffer.from(each.value) }))).toEqual([...records, record('c')])
  })
})
