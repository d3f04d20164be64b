import { join } from 'node:path'
import { type EventBus, openEmbeddedBus, openKafkaBus } from '@slipway/events'

const KAFKA = 'kafka:'

/** The bus that servers of a test share, which soon notice that one of them is gone: `kafka:host:port`, or a folder. */
export function openSharedBus(place: string): EventBus {
  if (!place.startsWith(KAFKA)) return openEmbeddedBus({ path: join(place, 'events.db'), leaseMs: 1000 })
  return openKafkaBus({
    brokers: [place.slice(KAFKA.length)],
    clientId: 'slipway-test',
    sessionTimeoutMs: 1000,
    rebalanceTimeoutMs: 3000,
  })
}
