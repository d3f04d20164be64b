import { logger } from '@slipway/telemetry'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { InferenceWatch, type InferenceWatchOptions } from './inference-watch.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

test('while inference takes long to answer at most one more look waits', async () => {
  const asked: ((answer: { ready: boolean }) => void)[] = []
  const client = { serverReady: () => new Promise((resolve) => asked.push(resolve)) }
  const watch = new InferenceWatch({
    client: client as unknown as InferenceWatchOptions['client'],
    deployment: { reload: async () => [] },
    log: logger('test'),
  })
  watch.start({ set: () => undefined, forget: () => undefined })
  await vi.advanceTimersByTimeAsync(60_000)
  expect(asked).toHaveLength(1)
  for (let answered = 0; answered < asked.length; answered++) {
    asked[answered]?.({ ready: true })
    await vi.advanceTimersByTimeAsync(0)
  }
  expect(asked).toHaveLength(2)
  expect(watch.isReady).toBe(true)
  await watch.stop()
})
