/** Takes feature rows from the bus, as WriteFeatures takes them from callers. */
import { consume, type EventBus, Poison, type Subscription, topics } from '@slipway/events'
import type { FeatureRow } from '@slipway/proto/slipway/features/v1/value'
import type { Writes } from './writes.ts'

/** Consumer group of all replicas. */
const group = 'feature-store'

/** Starts to take rows. A batch is committed after its rows are durable; a row that is refused is parked with the reason. */
export async function startIngestion(bus: EventBus, writes: Writes): Promise<Subscription> {
  return await consume(bus, topics.features, {
    group,
    handle: async (events) => {
      const results = await writes.write(events.map(({ message }): FeatureRow => message))
      const refused = results.find((result) => 'problem' in result)
      if (refused === undefined) return
      const { field, description } = refused.problem
      throw new Poison(`${field}: ${description}`)
    },
  })
}
