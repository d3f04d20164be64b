import { identityModel } from '@slipway/onnx'
import { afterEach, expect, test } from 'vitest'
import { serve, type TestServer } from './testing.ts'
import { ThreadBudget } from './thread-budget.ts'

let server: TestServer | undefined
afterEach(() => server?.stop())

test('where one thread is all there is, a version under full load holds up another one for a few batches, not more', async () => {
  const limits = { maxBatchRows: 4, maxBatchBytes: 1 << 20, maxQueueRows: 10_000, maxQueueWaitMs: 60_000 }
  server = await serve(
    ['busy', 'quiet'].map((model) => ({ model, bytes: identityModel('UINT8') })),
    { budget: new ThreadBudget(1), executorsPerVersion: 2, limits },
  )
  const { client, models } = server
  const ask = (modelName: string) =>
    client.modelInfer({
      modelName,
      inputs: [{ name: 'input', datatype: 'UINT8', shape: [1n] }],
      rawInputContents: [Buffer.of(1)],
    })
  let isOver = false
  const load = Array.from({ length: 64 }, async () => {
    while (!isOver) await ask('busy')
  })
  const busy = models.resolve('busy', '')
  const passed: number[] = []
  for (let request = 0; request < 50; request++) {
    const before = busy.counts.batches
    await ask('quiet')
    passed.push(busy.counts.batches - before)
  }
  isOver = true
  await Promise.all(load)
  // The load goes on while the quiet one's request and answer are on their way, so the middle one tells.
  expect(passed.sort((left, right) => left - right)[25]).toBeLessThan(20)
})
