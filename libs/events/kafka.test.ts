import { describe, expect, test } from 'vitest'
import { collect, eventBusContract } from './contract.ts'
import { openKafkaBus } from './kafka.ts'
import { createKafkaClient } from './kafka-client.ts'
import { recordOf, unique } from './record.fixture.ts'

const brokers = process.env.SLIPWAY_TEST_KAFKA?.split(',') ?? []

describe.skipIf(brokers.length === 0)('the Kafka bus keeps the promises of the port', () => {
  eventBusContract(() => ({
    open: () => openKafkaBus({ brokers, clientId: 'slipway-test', sessionTimeoutMs: 4000 }),
  }))

  test('a temporary reader that has stopped leaves no group in the cluster', async () => {
    const bus = openKafkaBus({ brokers, clientId: 'slipway-test', sessionTimeoutMs: 6000 })
    const { kafka, end } = createKafkaClient(brokers, 'slipway-test')
    const admin = kafka.admin()
    await admin.connect()
    const group = unique('group')
    const groups = async (): Promise<string[]> =>
      (await admin.listGroups()).groups.map(({ groupId }) => groupId).filter((name) => name.startsWith(group))
    const [kept, temporary] = await Promise.all(
      [false, true].map((isTemporary) => collect(bus, { topics: [unique('topic')], group, isTemporary })),
    )
    expect(await groups()).toHaveLength(2)
    await Promise.all([kept?.stop(), temporary?.stop()])
    expect(await groups()).toHaveLength(1)
    await Promise.all([bus.close(), admin.disconnect()])
    end()
  })
})

describe('a Kafka bus whose cluster is away', () => {
  const away = (publishTimeoutMs: number) =>
    openKafkaBus({ brokers: ['127.0.0.1:1'], clientId: 'slipway-test', publishTimeoutMs })

  test('publishing is UNAVAILABLE after its time', async () => {
    const bus = away(200)
    await expect(bus.publish([recordOf('topic', 'k', 1)])).rejects.toMatchObject({ reason: 'EVENT_BUS_UNAVAILABLE' })
    await bus.close()
  })

  test('closing ends a subscription that waits for the cluster, and a publisher that does', async () => {
    const bus = away(60_000)
    const subscribing = bus.subscribe({ topics: ['topic'], group: 'g', handle: async () => undefined })
    const publishing = bus.publish([recordOf('topic', 'k', 1)])
    const ended = Promise.allSettled([subscribing, publishing])
    await bus.close()
    expect(await ended).toEqual([
      { status: 'rejected', reason: expect.objectContaining({ reason: 'EVENT_BUS_CLOSED' }) },
      { status: 'rejected', reason: expect.objectContaining({ reason: 'EVENT_BUS_UNAVAILABLE' }) },
    ])
  })
})
