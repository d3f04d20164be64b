import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { deadLetterTopic, type EventBus, limits } from './bus.ts'
import { startChild } from './child-process.fixture.ts'
import { collect, eventBusContract } from './contract.ts'
import { type EmbeddedBusOptions, openEmbeddedBus } from './embedded.ts'
import { deadLetterHeader, Poison } from './poison.ts'
import { numberOf, numbers, recordOf, unique } from './record.fixture.ts'

const directory = mkdtempSync(join(tmpdir(), 'slipway-events-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

describe('the embedded bus keeps the promises of the port', () => {
  eventBusContract(() => ({ open: () => openEmbeddedBus({ path: join(directory, 'contract.db'), leaseMs: 300 }) }))
})

describe('the embedded bus', () => {
  const opened: EventBus[] = []
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((bus) => bus.close()))
  })

  function open(options: EmbeddedBusOptions): EventBus {
    const bus = openEmbeddedBus(options)
    opened.push(bus)
    return bus
  }

  test('a publisher killed with -9 loses nothing that was acknowledged', async () => {
    const path = join(directory, `${unique('killed')}.db`)
    const topic = unique('topic')
    const child = startChild('publish', path, topic)
    await child.wrote(200)
    await child.kill()
    const reader = await collect(open({ path }), { topics: [topic] })
    await reader.caughtUp()
    const found = reader.records.map(numberOf).toSorted((a, b) => a - b)
    // One more may be there: it was written, and killed before it could be acknowledged.
    expect([child.numbers, numbers(0, child.numbers.length + 1)]).toContainEqual(found)
  })

  test('a temporary reader that has stopped leaves nothing in the file', async () => {
    const path = join(directory, `${unique('temporary')}.db`)
    const [topic, group] = [unique('topic'), unique('group')]
    const bus = open({ path })
    const kept = await collect(bus, { topics: [topic], group })
    const temporary = await collect(bus, { topics: [topic], group, isTemporary: true })
    const file = new DatabaseSync(path, { readOnly: true })
    const groups = (table: string) =>
      file
        .prepare(`SELECT DISTINCT group_name FROM ${table}`)
        .all()
        .map((row) => row.group_name)
    expect(groups('positions')).toHaveLength(2)
    await Promise.all([temporary.stop(), kept.stop()])
    expect(groups('positions')).toEqual([group])
    for (const table of ['members', 'leases']) expect(groups(table)).toEqual([])
    file.close()
  })

  test('a reader killed with -9 is replaced: what it had not handled is handled by another', async () => {
    const path = join(directory, `${unique('killed')}.db`)
    const [topic, group] = [unique('topic'), unique('group')]
    const bus = open({ path, leaseMs: 1000 })
    await bus.publish(numbers(0, 500).map((number) => recordOf(topic, `key-${number % 20}`, number)))
    const child = startChild('handle', path, topic, group)
    await child.wrote(50)
    await child.kill()
    const reader = await collect(bus, { topics: [topic], group })
    await reader.caughtUp()
    const handled = new Set([...child.numbers, ...reader.records.map(numberOf)])
    expect(handled.size).toBe(500)
    // What the child had committed is not handled again: at most its last batch is.
    expect(child.numbers.length + reader.records.length).toBeLessThanOrEqual(503)
  })

  test('several processes publish to one file at once, and every record is there once', async () => {
    const path = join(directory, `${unique('shared')}.db`)
    const topic = unique('topic')
    const children = [startChild('publish', path, topic), startChild('publish', path, topic)]
    const reader = await collect(open({ path }), { topics: [topic] })
    await Promise.all(children.map((child) => child.wrote(100)))
    await Promise.all(children.map((child) => child.kill()))
    await reader.caughtUp()
    const counts = Map.groupBy(reader.records.map(numberOf), (number) => number)
    for (const number of numbers(0, 100)) expect(counts.get(number)).toHaveLength(2)
  })

  test('a reader that lost its lease cannot move the position of the one that replaced it', async () => {
    const path = join(directory, `${unique('fenced')}.db`)
    const [topic, group] = [unique('topic'), unique('group')]
    const bus = open({ path, leaseMs: 200 })
    await bus.publish(numbers(0, 4).map((number) => recordOf(topic, 'same', number)))
    const lost = Promise.withResolvers<void>()
    const slow = await bus.subscribe({
      topics: [topic],
      group,
      handle: (_batch, { signal }) =>
        new Promise((resolve) => signal.addEventListener('abort', () => resolve(lost.resolve()))),
    })
    // As if the process had slept: its lease is another's now.
    const file = new DatabaseSync(path, { timeout: 5000 })
    file.exec(`UPDATE leases SET member = 'other', expires_ms = ${Date.now() + 2000}`)
    file.close()
    await lost.promise
    await slow.stop()
    const reader = await collect(bus, { topics: [topic], group })
    await reader.caughtUp()
    expect(reader.values()).toEqual([0, 1, 2, 3])
  })

  test('retention deletes the oldest records, and readers go on behind the gap', async () => {
    const path = join(directory, `${unique('retention')}.db`)
    const topic = unique('topic')
    const settings = { name: topic, partitions: 1, retentionMs: 3_600_000, retentionBytes: 5000 }
    const bus = openEmbeddedBus({ path, topics: [settings] })
    for (const number of numbers(0, 20)) {
      await bus.publish([{ ...recordOf(topic, 'k', number), value: Buffer.alloc(1000, String(number)) }])
    }
    await bus.close()
    // The next process prunes when it opens the file.
    const reader = await collect(open({ path, topics: [settings] }), { topics: [topic] })
    await reader.caughtUp()
    expect(reader.records.length).toBeLessThanOrEqual(5)
    expect(reader.records.map((record) => Number(record.offset))).toEqual(numbers(20 - reader.records.length, 20))
  })

  test('a group does not wait for what retention took from it', async () => {
    const path = join(directory, `${unique('emptied')}.db`)
    const [topic, group] = [unique('topic'), unique('group')]
    const bus = open({ path })
    await bus.publish([recordOf(topic, 'k', 0)])
    const first = await collect(bus, { topics: [topic], group })
    await first.caughtUp()
    await first.stop()
    await bus.publish([recordOf(topic, 'k', 1)])
    const file = new DatabaseSync(path, { timeout: 5000 })
    file.exec('DELETE FROM records')
    file.close()
    const second = await collect(bus, { topics: [topic], group })
    await second.caughtUp()
    await bus.publish([recordOf(topic, 'k', 2)])
    await second.caughtUp()
    expect(second.values()).toEqual([2])
  })

  test('poison as large as a record may be is parked, without the end that left no room', async () => {
    const path = join(directory, `${unique('large')}.db`)
    const topic = unique('topic')
    const bus = open({ path })
    const record = { ...recordOf(topic, 'k', 0), headers: {}, value: Buffer.alloc(limits.maxRecordBytes - 1, 'v') }
    const reader = await bus.subscribe({
      topics: [topic],
      group: unique('group'),
      handle: async () => {
        throw new Poison('never')
      },
    })
    await bus.publish([record])
    await reader.caughtUp()
    const parked = await collect(bus, { topics: [deadLetterTopic(topic)] })
    await parked.caughtUp()
    const [letter] = parked.records
    expect(letter?.headers[deadLetterHeader.valueBytes]).toBe(String(record.value.length))
    expect(record.value.subarray(0, letter?.value.length).equals(letter?.value ?? Buffer.alloc(0))).toBe(true)
    expect(letter?.value.length).toBeGreaterThan(limits.maxRecordBytes - 1000)
  })

  test('a file that is not an event file makes publishing UNAVAILABLE', async () => {
    const bus = openEmbeddedBus({ path: directory })
    await expect(bus.publish([recordOf('t', 'k', 1)])).rejects.toMatchObject({ reason: 'EVENT_BUS_UNAVAILABLE' })
    await bus.close()
  })
})
