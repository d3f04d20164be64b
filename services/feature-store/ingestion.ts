/** Takes feature rows from the bus, as WriteFeatures takes them from callers. */
import { consume, type Event, type EventBus, Poison, type Subscription, topics } from '@slipway/events'
import type { FeatureRow, FeatureRowSchema } from '@slipway/proto/slipway/features/v1/value'
import type { Writes } from './writes.ts'

/** Consumer group of all replicas. */
const group = 'feature-store'

/**
 * Starts to take rows. A batch is committed after its rows are durable; a row that is refused is parked with the reason,
 * and the others of its batch are kept. Resolves when the bus is there; rejects when it is closed before.
 */
export async function startIngestion(bus: EventBus, writes: Writes): Promise<Subscription> {
  return await consume(bus, topics.features, {
    group,
    handle: async (events) => {
      const results = await writes.write(events.map(rowOf))
      const refused = results.flatMap((result, place) => ('problem' in result ? [{ ...result, place }] : []))
      const [first] = refused
      if (first === undefined) return
      const { field, description } = first.problem
      // One of several is named by nobody: the bus then gives each record by itself.
      const record = refused.length === 1 ? events[first.place]?.record : undefined
      throw new Poison(`${field}: ${description}`, record === undefined ? {} : { record })
    },
  })
}

/** A record that comes again must be the same row again, so its place in the log orders it where its producer did not. */
function rowOf({ message, record }: Event<typeof FeatureRowSchema>): FeatureRow {
  return message.sequence === undefined ? { ...message, sequence: record.offset } : message
}
