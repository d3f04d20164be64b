import { describe, expect, test } from 'vitest'
import { eventBusContract } from './contract.ts'
import { openKafkaBus } from './kafka.ts'
import { recordOf } from './record.fixture.ts'

const brokers = process.env.SLIPWAY_TEST_KAFKA?.split(',') ?? []

describe.skipIf(brokers.length === 0)('the Kafka bus keeps the promises of the port', () => {
  eventBusContract(() => ({
    open: () => openKafkaBus({ brokers, clientId: 'slipway-test', sessionTimeoutMs: 4000 }),
  }))
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
