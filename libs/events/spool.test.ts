import { mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { afterAll, afterEach, expect, test } from 'vitest'
import { type EventBus, type EventRecord, limits } from './bus.ts'
import { startChild } from './child-process.fixture.ts'
import { numberOf, numbers, recordOf, unique } from './record.fixture.ts'
import { openSpool, type SpoolCounts, type SpooledProducer, type SpoolOptions } from './spool.ts'
import { openSpoolFiles } from './spool-files.ts'
import { decodeFrames, encodeFrame, measureFrames } from './spool-segment.ts'

const root = mkdtempSync(join(tmpdir(), 'slipway-spool-'))
const opened: SpooledProducer[] = []
const patience = { timeout: 20_000 }
afterEach(async () => {
  await Promise.all(opened.splice(0).map((producer) => producer.close()))
})
afterAll(() => rmSync(root, { recursive: true, force: true }))

/** A bus that takes records when it is told to. */
class FakeBus implements Pick<EventBus, 'publish'> {
  readonly taken: EventRecord[] = []
  mode: 'up' | 'down' | 'silent' = 'up'

  async publish(records: readonly EventRecord[], { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    if (this.mode === 'down') throw new Error('down')
    if (this.mode === 'silent') {
      await new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason)))
    }
    this.taken.push(...records)
  }
}

function open(bus: FakeBus, options: Partial<SpoolOptions> = {}): SpooledProducer {
  const place = { directory: join(root, unique('spool')), maxBytes: 1e8, maxBufferedRecords: 10_000 }
  const producer = openSpool({ bus: bus as unknown as EventBus, ...place, publishTimeoutMs: 100, ...options })
  opened.push(producer)
  return producer
}

function offer(producer: SpooledProducer, from: number, to: number): void {
  for (const number of numbers(from, to)) producer.offer(recordOf('topic', `key-${number % 5}`, number))
}

function expectBalance({ offered, delivered, spooled, dropped, buffered }: SpoolCounts): void {
  expect(delivered + spooled + dropped + buffered).toBe(offered)
}

test('while the bus is up records go straight there, in order, and nothing is written to disk', async () => {
  const bus = new FakeBus()
  const directory = join(root, unique('spool'))
  const producer = open(bus, { directory })
  offer(producer, 0, 1200)
  expectBalance(producer.counts())
  await producer.flush()
  expect(bus.taken.map(numberOf)).toEqual(numbers(0, 1200))
  expect(producer.counts()).toEqual({
    offered: 1200,
    recovered: 0,
    delivered: 1200,
    spooled: 0,
    dropped: 0,
    buffered: 0,
  })
  expect(readdirSync(directory)).toEqual([])
})

test.each(['down', 'silent'] as const)(
  'while the bus is %s records go to disk, and follow in order when it is back',
  async (mode) => {
    const bus = new FakeBus()
    const producer = open(bus)
    offer(producer, 0, 100)
    await producer.flush()
    bus.mode = mode
    for (let from = 100; from < 1100; from += 100) {
      offer(producer, from, from + 100)
      await producer.flush()
      expectBalance(producer.counts())
    }
    expect(producer.counts()).toMatchObject({ offered: 1100, delivered: 100, spooled: 1000, dropped: 0, buffered: 0 })
    bus.mode = 'up'
    offer(producer, 1100, 1200)
    await expect.poll(() => producer.counts().delivered, patience).toBe(1200)
    expect(bus.taken.map(numberOf)).toEqual(numbers(0, 1200))
    offer(producer, 1200, 1300)
    await producer.flush()
    expect(producer.counts()).toMatchObject({ offered: 1300, delivered: 1300, spooled: 0, dropped: 0 })
    expect(bus.taken.map(numberOf)).toEqual(numbers(0, 1300))
  },
)

test('however the bus comes and goes while records are offered, all are delivered, in order and accounted for', async () => {
  const step = fc.record({
    mode: fc.constantFrom('up' as const, 'down' as const),
    records: fc.nat(30),
    pauseMs: fc.nat(4),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      const bus = new FakeBus()
      const producer = open(bus, { lingerMs: 1 })
      let offered = 0
      for (const { mode, records, pauseMs } of steps) {
        bus.mode = mode
        offer(producer, offered, offered + records)
        offered += records
        expectBalance(producer.counts())
        await sleep(pauseMs)
      }
      bus.mode = 'up'
      await expect.poll(() => producer.counts().delivered, patience).toBe(offered)
      expect(bus.taken.map(numberOf)).toEqual(numbers(0, offered))
      await producer.close()
    }),
    { numRuns: 20 },
  )
}, 120_000)

test.each(['batch', 'never'] as const)(
  'with sync %s, records that are written while others are read keep their order',
  async (sync) => {
    const files = await openSpoolFiles({ directory: join(root, unique('files')), maxBytes: 1e8, sync })
    const read: number[] = []
    const write = async (): Promise<void> => {
      for (const number of numbers(0, 300)) expect(await files.append([recordOf('topic', 'k', number)])).toBe(1)
    }
    const take = async (): Promise<void> => {
      while (read.length < 300) {
        const records = await files.read(10)
        if (records.length > 0) await files.advance()
        else await sleep(0)
        read.push(...records.map(numberOf))
      }
    }
    await Promise.all([write(), take()])
    expect(read).toEqual(numbers(0, 300))
    expect({ records: files.records, bytes: files.bytes }).toEqual({ records: 0, bytes: 0 })
    await files.close()
  },
)

test('what exceeds the disk, the memory or the size of a record is dropped and counted, and the caller goes on', async () => {
  const bus = new FakeBus()
  bus.mode = 'down'
  const producer = open(bus, { maxBytes: 1200, maxBufferedRecords: 50 })
  expect(producer.offer({ ...recordOf('topic', 'k', 0), value: new Uint8Array(limits.maxRecordBytes) })).toBe(false)
  offer(producer, 0, 70)
  expect(producer.counts()).toMatchObject({ offered: 71, buffered: 50, dropped: 21 })
  await producer.flush()
  const counts = producer.counts()
  expectBalance(counts)
  expect(counts.spooled).toBeGreaterThan(10)
  expect(counts.spooled).toBeLessThan(50)
  bus.mode = 'up'
  await expect.poll(() => producer.counts().spooled, patience).toBe(0)
  expect(bus.taken.map(numberOf)).toEqual(numbers(0, counts.spooled))
  expectBalance(producer.counts())
})

test('a disk that does not take note of what was delivered holds up nothing', async () => {
  const bus = new FakeBus()
  bus.mode = 'down'
  const directory = join(root, unique('spool'))
  const producer = open(bus, { directory })
  offer(producer, 0, 2000)
  await producer.flush()
  mkdirSync(join(directory, 'position.new'))
  bus.mode = 'up'
  await expect.poll(() => producer.counts(), patience).toMatchObject({ offered: 2000, delivered: 2000, spooled: 0 })
  expect(bus.taken.map(numberOf)).toEqual(numbers(0, 2000))
})

test('what a closed producer left on disk is delivered by the next one', async () => {
  const bus = new FakeBus()
  bus.mode = 'down'
  const directory = join(root, unique('spool'))
  const first = open(bus, { directory })
  offer(first, 0, 50)
  await first.close()
  expect(first.offer(recordOf('topic', 'k', 50))).toBe(false)
  expect(first.counts()).toMatchObject({ offered: 51, spooled: 50, dropped: 1, buffered: 0 })
  bus.mode = 'up'
  const second = open(bus, { directory })
  await expect.poll(() => second.counts().delivered, patience).toBe(50)
  expect(second.counts()).toEqual({ offered: 50, recovered: 50, delivered: 50, spooled: 0, dropped: 0, buffered: 0 })
  expect(bus.taken.map(numberOf)).toEqual(numbers(0, 50))
})

test('a process killed with -9 loses nothing that flush acknowledged', async () => {
  const directory = join(root, unique('killed'))
  const child = startChild('spool', directory, 'topic')
  await child.wrote(500)
  await child.kill()
  const bus = new FakeBus()
  const producer = open(bus, { directory })
  await expect.poll(() => producer.counts().delivered, patience).toBeGreaterThanOrEqual(child.numbers.length)
  await expect.poll(() => producer.counts().spooled, patience).toBe(0)
  expect(bus.taken.map(numberOf).slice(0, child.numbers.length)).toEqual(child.numbers)
})

test('a torn or damaged end of a segment is left out, what stands before it is delivered', async () => {
  const directory = join(root, unique('torn'))
  const bus = new FakeBus()
  bus.mode = 'down'
  const first = open(bus, { directory })
  offer(first, 0, 10)
  await first.close()
  const [segment = ''] = readdirSync(directory).filter((name) => name.endsWith('.spool'))
  writeFileSync(join(directory, segment), Buffer.from('half a frame'), { flag: 'a' })
  bus.mode = 'up'
  const second = open(bus, { directory })
  await expect.poll(() => second.counts().delivered, patience).toBe(10)
  bus.mode = 'down'
  offer(second, 10, 20)
  await second.close()
  const [next = ''] = readdirSync(directory).filter((name) => name.endsWith('.spool'))
  truncateSync(join(directory, next), 100)
  bus.mode = 'up'
  const third = open(bus, { directory })
  await expect.poll(() => third.counts().recovered, patience).toBeGreaterThan(0)
  await expect.poll(() => third.counts().spooled, patience).toBe(0)
  expect(third.counts().delivered).toBeLessThan(10)
  expectBalance(third.counts())
})

test('frames give back what they were made of, and any cut or flipped byte ends them before it', () => {
  const record = fc.record({
    topic: fc.string(),
    key: fc.string({ unit: 'binary' }),
    value: fc.uint8Array(),
    headers: fc.dictionary(fc.string(), fc.string()),
  })
  fc.assert(
    fc.property(fc.array(record, { maxLength: 5 }), fc.nat(), fc.boolean(), (records, at, flip) => {
      const frames = records.map(encodeFrame)
      const segment = Buffer.concat(frames)
      const decoded = decodeFrames(segment, 0, 10).map((one) => one.record)
      expect(decoded.map((one) => ({ ...one, value: [...one.value], headers: { ...one.headers } }))).toEqual(
        records.map((one) => ({ ...one, value: [...one.value], headers: { ...one.headers } })),
      )
      if (segment.length === 0) return
      const place = at % segment.length
      const damaged = flip ? Buffer.from(segment) : segment.subarray(0, place)
      if (flip) damaged[place] = (damaged[place] ?? 0) ^ 1
      let whole = 0
      for (let end = 0; whole < frames.length; whole += 1) {
        end += frames[whole]?.length ?? 0
        if (end > place) break
      }
      expect(measureFrames(damaged, 0).records).toBe(whole)
    }),
  )
})
