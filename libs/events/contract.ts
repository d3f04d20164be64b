import { afterEach, expect, test } from 'vitest'
import { type EventBus, type EventRecord, limits, type ReceivedRecord, type SubscribeOptions } from './bus.ts'
import { deadLetterHeader, Poison } from './poison.ts'
import { numberOf, numbers, recordOf, unique } from './record.fixture.ts'

/** What a contract test needs to know of an adapter. */
export interface EventBusUnderTest {
  /** A handle on the same events each time, as another process would open it. */
  open(): EventBus
}

/** Checks every promise of the port; each adapter's test calls it. */
export function eventBusContract(subject: () => EventBusUnderTest): void {
  const opened: EventBus[] = []
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((bus) => bus.close()))
  })

  function open(): EventBus {
    const bus = subject().open()
    opened.push(bus)
    return bus
  }

  test('1, 2 and 8: a record published through one handle is read through another as it was written', async () => {
    const topic = unique('topic')
    const value = Uint8Array.from({ length: 256 }, (_, byte) => byte)
    const before = BigInt(Date.now() - 1000) * 1000n
    await open().publish([{ topic, key: 'schlüssel ☂', value, headers: { ce_id: '1', note: 'ünï' } }])
    const reader = await collect(open(), { topics: [topic] })
    await reader.caughtUp()
    expect(reader.records).toHaveLength(1)
    const [record] = reader.records
    expect(record).toMatchObject({ topic, key: 'schlüssel ☂', headers: { ce_id: '1', note: 'ünï' } })
    expect(record?.headers).toEqual({ ce_id: '1', note: 'ünï' })
    expect(Buffer.from(record?.value ?? []).equals(value)).toBe(true)
    expect(record?.timeMicros).toBeGreaterThan(before)
    expect(record?.timeMicros).toBeLessThan(before + 60_000_000n)
  })

  test('2: every group gets every record; a group that was away goes on where it stopped', async () => {
    const topic = unique('topic')
    const bus = open()
    const [a, b] = [unique('group'), unique('group')]
    await bus.publish(recordsOf(topic, 0, 50))
    const first = await collect(bus, { topics: [topic], group: a })
    await first.caughtUp()
    await first.stop()
    await bus.publish(recordsOf(topic, 50, 100))
    const second = await collect(open(), { topics: [topic], group: a })
    const other = await collect(open(), { topics: [topic], group: b })
    await Promise.all([second.caughtUp(), other.caughtUp()])
    expect(first.values().toSorted(byNumber)).toEqual(numbers(0, 50))
    expect(second.values().toSorted(byNumber)).toEqual(numbers(50, 100))
    expect(other.values().toSorted(byNumber)).toEqual(numbers(0, 100))
  })

  test('3: records of one key keep their order, within a call and from call to call', async () => {
    const topic = unique('topic')
    const bus = open()
    const reader = await collect(open(), { topics: [topic], maxBatchRecords: 7 })
    const calls = Array.from({ length: 40 }, (_, call) =>
      bus.publish(numbers(call * 10, call * 10 + 10).map((number) => recordOf(topic, `k${number % 3}`, number))),
    )
    await Promise.all(calls)
    await reader.caughtUp()
    for (const key of ['k0', 'k1', 'k2']) {
      const seen = reader.records.filter((record) => record.key === key).map(numberOf)
      expect(seen).toEqual(numbers(0, 400).filter((number) => `k${number % 3}` === key))
    }
  })

  test('2: subscriptions of one group to different topics get all of their own', async () => {
    const topics = [unique('topic'), unique('topic')]
    const bus = open()
    const group = unique('group')
    const readers = await Promise.all(topics.map((topic) => collect(bus, { topics: [topic], group })))
    for (const topic of topics) await bus.publish(recordsOf(topic, 0, 40))
    await Promise.all(readers.map((reader) => reader.caughtUp()))
    for (const [index, reader] of readers.entries()) {
      expect(reader.values().toSorted(byNumber)).toEqual(numbers(0, 40))
      expect(new Set(reader.records.map(({ topic }) => topic))).toEqual(new Set([topics[index]]))
    }
  })

  test('4: the readers of a group share the partitions, and what one leaves another takes', async () => {
    const topic = unique('topic')
    const group = unique('group')
    const bus = open()
    const one = await collect(open(), { topics: [topic], group })
    const two = await collect(open(), { topics: [topic], group })
    let published = 0
    await expect
      .poll(
        async () => {
          await bus.publish(recordsOf(topic, published, published + 40))
          published += 40
          await one.caughtUp()
          return one.records.length > 0 && two.records.length > 0
        },
        { timeout: 20_000 },
      )
      .toBe(true)
    await one.stop()
    await bus.publish(recordsOf(topic, published, published + 100))
    published += 100
    await two.caughtUp()
    expect(new Set([...one.values(), ...two.values()]).size).toBe(published)
  })

  test('5: batches are of one partition, in order, bounded, and never handled at the same time', async () => {
    const topic = unique('topic')
    const bus = open()
    await bus.publish(recordsOf(topic, 0, 200))
    let running = 0
    const batches: (readonly ReceivedRecord[])[] = []
    const subscription = await bus.subscribe({
      topics: [topic],
      group: unique('group'),
      maxBatchRecords: 16,
      handle: async (batch) => {
        running += 1
        expect(running).toBe(1)
        await new Promise((resolve) => setTimeout(resolve, 2))
        batches.push(batch)
        running -= 1
      },
    })
    await subscription.caughtUp()
    for (const batch of batches) {
      expect(batch.length).toBeLessThanOrEqual(16)
      expect(new Set(batch.map((record) => record.partition)).size).toBe(1)
      const offsets = batch.map((record) => record.offset)
      expect(offsets).toEqual(offsets.toSorted((x, y) => Number(x - y)))
    }
    expect(batches.flat()).toHaveLength(200)
  })

  test('6: a group starts at the start, at the end or at a time, and the first choice stays', async () => {
    const topic = unique('topic')
    const bus = open()
    await bus.publish(recordsOf(topic, 0, 20))
    await new Promise((resolve) => setTimeout(resolve, 20))
    const timeMicros = BigInt(Date.now()) * 1000n
    await bus.publish(recordsOf(topic, 20, 30))
    const latest = unique('group')
    const idle = await collect(bus, { topics: [topic], group: latest, from: 'latest' })
    await idle.caughtUp()
    await idle.stop()
    await bus.publish(recordsOf(topic, 30, 40))
    const readers = await Promise.all([
      collect(bus, { topics: [topic], group: latest, from: 'earliest' }),
      collect(bus, { topics: [topic], from: { timeMicros } }),
      collect(bus, { topics: [topic], from: 'earliest' }),
    ])
    await Promise.all(readers.map((reader) => reader.caughtUp()))
    const [fromEnd, fromTime, fromStart] = readers.map((reader) => reader.values().toSorted(byNumber))
    expect(idle.records).toEqual([])
    expect(fromEnd).toEqual(numbers(30, 40))
    expect(fromTime).toEqual(numbers(20, 40))
    expect(fromStart).toEqual(numbers(0, 40))
  })

  test('7: poison is parked with its reason and origin, the others of its batch are handled in order', async () => {
    const topic = unique('topic')
    const group = unique('group')
    const bus = open()
    await bus.publish(numbers(0, 30).map((number) => recordOf(topic, 'same', number)))
    const handled: number[] = []
    const subscription = await bus.subscribe({
      topics: [topic],
      group,
      handle: async (batch) => {
        const bad = batch.find((record) => numberOf(record) === 11)
        if (bad !== undefined) throw new Poison('eleven', { record: bad })
        // Says nothing of which one: the batch comes again record by record.
        if (batch.some((record) => numberOf(record) === 23)) throw new Poison('twenty-three')
        handled.push(...batch.map(numberOf))
      },
    })
    await subscription.caughtUp()
    expect(handled).toEqual(numbers(0, 30).filter((number) => number !== 11 && number !== 23))
    const parked = await collect(open(), { topics: [`${topic}.dead-letter`] })
    await parked.caughtUp()
    expect(parked.values()).toEqual([11, 23])
    expect(parked.records[0]?.key).toBe('same')
    expect(parked.records[0]?.headers).toMatchObject({
      [deadLetterHeader.reason]: 'eleven',
      [deadLetterHeader.topic]: topic,
      [deadLetterHeader.group]: group,
      [deadLetterHeader.offset]: '11',
      [deadLetterHeader.partition]: expect.stringMatching(/^\d+$/),
    })
  })

  test('7: after any other error the same records come again until they are handled', async () => {
    const topic = unique('topic')
    const bus = open()
    await bus.publish(numbers(0, 10).map((number) => recordOf(topic, 'same', number)))
    let failures = 0
    const handled: number[] = []
    const subscription = await bus.subscribe({
      topics: [topic],
      group: unique('group'),
      handle: async (batch) => {
        failures += 1
        if (failures <= 3) throw new Error('database away')
        handled.push(...batch.map(numberOf))
      },
    })
    await subscription.caughtUp()
    expect(failures).toBeGreaterThan(3)
    expect(handled).toEqual(numbers(0, 10))
  })

  test('9: a record that is too large is refused, and nothing of its call is written', async () => {
    const topic = unique('topic')
    const bus = open()
    const tooLarge = { ...recordOf(topic, 'k', 2), value: new Uint8Array(limits.maxRecordBytes) }
    await expect(bus.publish([recordOf(topic, 'k', 1), tooLarge])).rejects.toMatchObject({ reason: 'EVENT_TOO_LARGE' })
    const large = { ...recordOf(topic, 'k', 3), value: new Uint8Array(limits.maxRecordBytes - 100).fill(3) }
    await bus.publish([large])
    const reader = await collect(bus, { topics: [topic] })
    await reader.caughtUp()
    expect(reader.records).toHaveLength(1)
    expect(Buffer.from(reader.records[0]?.value ?? []).equals(large.value)).toBe(true)
  })

  test('a subscription of several topics reads them all', async () => {
    const [one, two] = [unique('topic'), unique('topic')]
    const bus = open()
    const reader = await collect(bus, { topics: [one, two] })
    await bus.publish([...recordsOf(one, 0, 10), ...recordsOf(two, 10, 20)])
    await reader.caughtUp()
    expect(reader.values().toSorted(byNumber)).toEqual(numbers(0, 20))
  })

  test('11: temporary readers of one name read all records each, and again when they come back', async () => {
    const topic = unique('topic')
    const bus = open()
    const options = { topics: [topic], group: unique('group'), isTemporary: true }
    await bus.publish(recordsOf(topic, 0, 20))
    const first = await Promise.all([collect(bus, options), collect(bus, options)])
    await Promise.all(first.map((reader) => reader.caughtUp()))
    await Promise.all(first.map((reader) => reader.stop()))
    const second = await collect(bus, options)
    await second.caughtUp()
    for (const reader of [...first, second]) expect(reader.values().toSorted(byNumber)).toEqual(numbers(0, 20))
  })

  test('a stopped subscription begins no batch any more, and its handler was told by the signal', async () => {
    const topic = unique('topic')
    const bus = open()
    await bus.publish(numbers(0, 10).map((number) => recordOf(topic, 'same', number)))
    const started = Promise.withResolvers<void>()
    let calls = 0
    const subscription = await bus.subscribe({
      topics: [topic],
      group: unique('group'),
      maxBatchRecords: 2,
      handle: async (_batch, { signal }) => {
        calls += 1
        started.resolve()
        await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
      },
    })
    await started.promise
    await subscription.stop()
    expect(calls).toBe(1)
    await expect(subscription.caughtUp()).rejects.toMatchObject({ reason: 'SUBSCRIPTION_STOPPED' })
  })

  test('a closed bus refuses to publish and to subscribe', async () => {
    const bus = open()
    await bus.close()
    await expect(bus.publish([recordOf('t', 'k', 1)])).rejects.toMatchObject({ reason: 'EVENT_BUS_CLOSED' })
    await expect(collect(bus, { topics: ['t'] })).rejects.toMatchObject({ reason: 'EVENT_BUS_CLOSED' })
  })
}

interface Collected {
  readonly records: ReceivedRecord[]
  values(): number[]
  caughtUp(): Promise<void>
  stop(): Promise<void>
}

/** Subscribes and keeps what comes. */
export async function collect(
  bus: EventBus,
  options: Pick<SubscribeOptions, 'topics'> & Partial<SubscribeOptions>,
): Promise<Collected> {
  const records: ReceivedRecord[] = []
  const subscription = await bus.subscribe({
    group: unique('group'),
    handle: async (batch) => {
      records.push(...batch)
    },
    ...options,
  })
  return { records, values: () => records.map(numberOf), caughtUp: subscription.caughtUp, stop: subscription.stop }
}

function recordsOf(topic: string, from: number, to: number): EventRecord[] {
  return numbers(from, to).map((number) => recordOf(topic, `key-${number}`, number))
}

const byNumber = (a: number, b: number): number => a - b
