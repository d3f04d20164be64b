/** The example's trainer listens to the bus for the training requests of its model. */
import { join } from 'node:path'
import { consume, type EventBus, openEmbeddedBus, openKafkaBus, topics } from '@slipway/events'
import type { TrainingRequested } from '@slipway/proto/slipway/events/v1/change'

/** Opens the bus that the services use. */
export function openEvents(options: { readonly dataDir: string; readonly kafka: string | undefined }): EventBus {
  if (options.kafka === undefined) return openEmbeddedBus({ path: join(options.dataDir, 'events.db') })
  return openKafkaBus({ brokers: [options.kafka], clientId: 'flights-trainer' })
}

/** Waits for the first training request of a model. */
export interface AwaitedRequest {
  readonly received: Promise<TrainingRequested>
  stop(): Promise<void>
}

/** Starts to listen; later requests are for the next training. */
export async function nextTrainingRequest(bus: EventBus, model: string): Promise<AwaitedRequest> {
  const { promise, resolve } = Promise.withResolvers<TrainingRequested>()
  const subscription = await consume(bus, topics.trainingRequests, {
    group: 'flights-trainer',
    handle: async (events) => {
      const request = events.find(({ message }) => message.model === model)
      if (request !== undefined) resolve(request.message)
    },
  })
  return { received: promise, stop: () => subscription.stop() }
}
