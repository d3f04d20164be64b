import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { type RunningKafka, startKafka } from '../../tools/backends/index.ts'
import type { EventBus } from './bus.ts'
import { startChild } from './child-process.fixture.ts'
import { collect } from './contract.ts'
import { openKafkaBus } from './kafka.ts'
import { createKafkaClient } from './kafka-client.ts'
import { type KafkaProxy, startKafkaProxy } from './kafka-proxy.fixture.ts'
import { numberOf, numbers, recordOf, unique } from './record.fixture.ts'
import { openSpool } from './spool.ts'

const isWanted = process.env.SLIPWAY_TEST_KAFKA !== undefined
const keys = 5

describe.skipIf(!isWanted)('a Kafka bus under faults', () => {
  let proxy: KafkaProxy
  let kafka: RunningKafka
  const opened: EventBus[] = []

  beforeAll(async () => {
    proxy = await startKafkaProxy()
    kafka = await startKafka({ advertisedPort: proxy.port })
    proxy.target(Number(kafka.brokers[0]?.split(':')[1]))
  })

  afterAll(async () => {
    await Promise.all(opened.map((bus) => bus.close()))
    await kafka?.stop()
    await proxy?.close()
  })

  function open(times: { readonly sessionTimeoutMs?: number; readonly rebalanceTimeoutMs?: number } = {}): EventBus {
    const bus = openKafkaBus({
      brokers: [`127.0.0.1:${proxy.port}`],
      clientId: 'slipway-faults',
      sessionTimeoutMs: 1000,
      rebalanceTimeoutMs: 3000,
      ...times,
    })
    opened.push(bus)
    return bus
  }

  test('answers cut on their way: nothing acknowledged is lost, nothing stands twice in the log, all in order', async () => {
    const topic = unique('cut')
    const bus = open()
    const acknowledged: number[] = []
    let next = 0
    const publisher = async (): Promise<void> => {
      while (next < 400) {
        const number = next++
        if (number % 40 === 20) proxy.cutAnswers(1)
        await bus.publish([recordOf(topic, `key-${number % keys}`, number)])
        acknowledged.push(number)
      }
    }
    await Promise.all(Array.from({ length: 8 }, publisher))
    expect(proxy.cut).toBeGreaterThan(5)
    expect(acknowledged).toHaveLength(400)
    expect(await logOf(topic)).toEqual(byKey(numbers(0, 400)))
  })

  test('a broker killed with -9 under load: nothing acknowledged is lost, an idempotent reader sees nothing twice', async () => {
    const topic = unique('killed')
    const bus = open()
    const seen = new Map<number, number>()
    const subscription = await open().subscribe({
      topics: [topic],
      group: unique('group'),
      handle: async (batch) => {
        for (const record of batch) seen.set(numberOf(record), (seen.get(numberOf(record)) ?? 0) + 1)
      },
    })
    let running = true
    const acknowledged: number[] = []
    let next = 0
    const publisher = async (): Promise<void> => {
      while (running) {
        const first = next
        next += 20
        await bus.publish(numbers(first, first + 20).map((number) => recordOf(topic, `key-${number % keys}`, number)))
        acknowledged.push(...numbers(first, first + 20))
        await sleep(2)
      }
    }
    const publishing = Promise.all([publisher(), publisher()])
    for (const goal of [200, 400, 600]) {
      await expect.poll(() => acknowledged.length, { timeout: 20_000 }).toBeGreaterThan(goal)
      await kafka.kill()
      const before = acknowledged.length
      await kafka.restart()
      await expect.poll(() => acknowledged.length, { timeout: 30_000 }).toBeGreaterThan(before)
    }
    running = false
    await publishing
    await subscription.caughtUp()
    acknowledged.sort((a, b) => a - b)
    expect(acknowledged.filter((number) => !seen.has(number))).toEqual([])
    expect(await logOf(topic)).toEqual(byKey(numbers(0, next)))
  }, 120_000)

  test('a reader killed with -9 is replaced: what it had not handled is handled by another', async () => {
    const [topic, group] = [unique('topic'), unique('group')]
    const bus = open()
    await bus.publish(numbers(0, 500).map((number) => recordOf(topic, `key-${number % keys}`, number)))
    const child = startChild('handle', `kafka:127.0.0.1:${proxy.port}`, topic, group)
    await child.wrote(50)
    await child.kill()
    const reader = await collect(bus, { topics: [topic], group })
    await reader.caughtUp()
    expect(new Set([...child.numbers, ...reader.records.map(numberOf)]).size).toBe(500)
  })

  test('a publisher killed with -9 loses nothing that was acknowledged', async () => {
    const topic = unique('topic')
    const child = startChild('publish', `kafka:127.0.0.1:${proxy.port}`, topic)
    await child.wrote(200)
    await child.kill()
    const found = Object.values(await logOf(topic)).flat()
    expect(found.length).toBeLessThanOrEqual(child.numbers.length + 1)
    expect(child.numbers.filter((number) => !found.includes(number))).toEqual([])
  })

  test('a spool goes on while the broker is away, and everything follows in order when it is back', async () => {
    const topic = unique('spooled')
    const directory = mkdtempSync(join(tmpdir(), 'slipway-spooled-'))
    const bus = open()
    const spool = openSpool({ bus, directory, maxBytes: 1e8, maxBufferedRecords: 10_000, publishTimeoutMs: 300 })
    const offer = async (from: number, to: number): Promise<void> => {
      for (const number of numbers(from, to)) spool.offer(recordOf(topic, `key-${number % keys}`, number))
      await spool.flush()
    }
    await offer(0, 500)
    await kafka.kill()
    for (let from = 500; from < 3000; from += 500) await offer(from, from + 500)
    const { spooled, dropped } = spool.counts()
    expect({ spooled, dropped }).toEqual({ spooled: 2500, dropped: 0 })
    await kafka.restart()
    await expect.poll(() => spool.counts().delivered, { timeout: 30_000 }).toBe(3000)
    await offer(3000, 3500)
    const log = await logOf(topic)
    // A batch whose answer did not come in time may stand there twice: what is new to a reader comes in order.
    const firsts = Object.fromEntries(Object.entries(log).map(([key, all]) => [key, [...new Set(all)]]))
    expect(firsts).toEqual(byKey(numbers(0, 3500)))
    await spool.close()
    rmSync(directory, { recursive: true })
  }, 120_000)

  test('closing does not wait for a group that is not formed because another reader does not answer', async () => {
    const [topic, group] = [unique('topic'), unique('group')]
    const patient = { sessionTimeoutMs: 60_000, rebalanceTimeoutMs: 60_000 }
    const [busy, joining] = [open(patient), open(patient)]
    await busy.publish([recordOf(topic, 'key', 1)])
    const begun = Promise.withResolvers<void>()
    const released = Promise.withResolvers<void>()
    await busy.subscribe({
      topics: [topic],
      group,
      handle: async () => {
        begun.resolve()
        await released.promise
      },
    })
    await begun.promise
    const subscribing = joining.subscribe({ topics: [topic], group, handle: async () => undefined })
    const ended = expect(subscribing).rejects.toMatchObject({ reason: 'EVENT_BUS_CLOSED' })
    await groupForms(group, topic)
    await joining.close()
    await ended
    released.resolve()
    await busy.close()
  })

  test('closing does not wait for a broker that answers nothing any more, but for the handler', async () => {
    const topic = unique('topic')
    const bus = open()
    await bus.publish([recordOf(topic, 'key', 1)])
    const begun = Promise.withResolvers<void>()
    const released = Promise.withResolvers<void>()
    let isHandled = false
    await bus.subscribe({
      topics: [topic],
      group: unique('group'),
      handle: async () => {
        begun.resolve()
        await released.promise
        isHandled = true
      },
    })
    await begun.promise
    process.kill(kafka.pid, 'SIGSTOP')
    try {
      const publishing = bus.publish([recordOf(topic, 'key', 2)]).catch((error: unknown) => error)
      const closing = bus.close()
      expect(await publishing).toMatchObject({ reason: 'EVENT_BUS_UNAVAILABLE' })
      released.resolve()
      await closing
      expect(isHandled).toBe(true)
    } finally {
      process.kill(kafka.pid, 'SIGCONT')
    }
  })

  test('a closed bus leaves nothing behind that keeps its process alive, its broker there or gone', async () => {
    const topic = unique('topic')
    const bus = open()
    await bus.publish(numbers(0, 20).map((number) => recordOf(topic, `key-${number}`, number)))
    const place = `kafka:127.0.0.1:${proxy.port}`
    const [first, second] = [startChild('handle', place, topic, 'one'), startChild('handle', place, topic, 'two')]
    onTestFinished(async () => void (await Promise.all([first.kill(), second.kill(), kafka.restart()])))
    await Promise.all([first.wrote(20), second.wrote(20)])
    expect(await first.close()).toBe(0)
    await bus.close()
    await kafka.kill()
    expect(await second.close()).toBe(0)
  })

  /** Waits until the broker is forming the group anew. */
  async function groupForms(group: string, topic: string): Promise<void> {
    const { kafka: client, end } = createKafkaClient([`127.0.0.1:${proxy.port}`], 'slipway-test')
    const admin = client.admin()
    await admin.connect()
    const stateOf = async () => (await admin.describeGroups([`${group}.${topic}`])).groups[0]?.state
    await expect.poll(stateOf).toBe('PreparingRebalance')
    await admin.disconnect()
    end()
  }

  /** What stands in the log, by key. */
  async function logOf(topic: string): Promise<Record<string, number[]>> {
    const reader = await collect(open(), { topics: [topic] })
    await reader.caughtUp()
    await reader.stop()
    return Object.fromEntries(
      Map.groupBy(reader.records, (record) => record.key)
        .entries()
        .map(([key, records]) => [key, records.map(numberOf)]),
    )
  }

  function byKey(all: number[]): Record<string, number[]> {
    const groups = Map.groupBy(all, (number) => `key-${number % keys}`)
    return Object.fromEntries(groups)
  }
})
