import { join } from 'node:path'
import { consume, openEmbeddedBus, topics } from '@slipway/events'
import { expect, test } from 'vitest'
import { startTestRouter } from './router.fixture.ts'

const name = 'endpoints/flight-delay'
const double = (value: number) => ({ kind: { case: 'doubleValue' as const, value } })
const instance = (predictionId: string) => ({
  features: { distance: double(1), hour: double(1), mean_delay: double(1) },
  predictionId,
})

test('while the bus is away predictions and feedback are answered as ever, and both arrive once it is back', async () => {
  let router = await startTestRouter({ SLIPWAY_KAFKA_BROKERS: '127.0.0.1:1' })
  const variants = [{ name: 'champion', target: 'models/flights/versions/1', weightBasisPoints: 10_000 }]
  await router.routing.createEndpoint({ endpoint: { name, variants } })
  const ids = Array.from({ length: 50 }, (_, index) => `flight-${index}`)
  const answer = async (id: string): Promise<void> => {
    await router.predictions.predict({ endpoint: name, instances: [instance(id)] }, { timeoutMs: 2_000 })
    const feedback = [{ predictionId: id, outcome: { case: 'label' as const, value: 1 } }]
    await router.predictions.recordFeedback({ endpoint: name, feedback }, { timeoutMs: 2_000 })
  }
  await Promise.all(ids.map(answer))

  router = await router.restart({ SLIPWAY_KAFKA_BROKERS: '' })
  const bus = openEmbeddedBus({ path: join(router.dataDirectory, 'events.db') })
  const logged = new Set<string>()
  const labelled = new Set<string>()
  const subscriptions = await Promise.all([
    consume(bus, topics.predictions, {
      group: 'test',
      handle: async (events) => events.forEach(({ message }) => void logged.add(message.predictionId)),
    }),
    consume(bus, topics.feedback, {
      group: 'test',
      handle: async (events) => events.forEach(({ message }) => void labelled.add(message.predictionId)),
    }),
  ])
  await expect.poll(() => [logged.size, labelled.size], { timeout: 10_000 }).toEqual([50, 50])
  await Promise.all(subscriptions.map(async (subscription) => await subscription.stop()))
  await bus.close()
  await router.stop()
}, 60_000)
