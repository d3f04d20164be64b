import { type EventBus, openEmbeddedBus, openKafkaBus } from '@slipway/events'
import type { ServiceSettings } from './settings.ts'

/** Opens the bus that the settings name: Kafka when there are brokers, otherwise the file that all services share. */
export function openBus(
  { kafkaBrokers, eventsPath }: Pick<ServiceSettings, 'kafkaBrokers' | 'eventsPath'>,
  clientId: string,
): EventBus {
  return kafkaBrokers.length === 0
    ? openEmbeddedBus({ path: eventsPath })
    : openKafkaBus({ brokers: kafkaBrokers, clientId })
}
