import { describe } from 'vitest'
import { eventBusContract } from './contract.ts'
import { openKafkaBus } from './kafka.ts'

const brokers = process.env.SLIPWAY_TEST_KAFKA?.split(',') ?? []

describe.skipIf(brokers.length === 0)('the Kafka bus keeps the promises of the port', () => {
  eventBusContract(() => ({
    open: () => openKafkaBus({ brokers, clientId: 'slipway-test', sessionTimeoutMs: 1000, rebalanceTimeoutMs: 3000 }),
  }))
})
