import { identityModel, mlpModel, randomLayers } from '@slipway/onnx'
import { expect, test } from 'vitest'
import { executorContract, openExecutor } from './executor.contract.ts'
import { misdeed } from './test-workers/fragile-session.fixture.ts'
import { createThreadExecutor } from './thread-executor.ts'

const script = new URL('./test-workers/fragile.ts', import.meta.url)

executorContract({
  start: createThreadExecutor(),
  startFragile: createThreadExecutor(script, { maxHeapMib: 64 }),
  deaths: ['throw', 'exit', 'exhaustHeap'],
})

test('a thread whose model was let go runs the next one, and knows nothing of the one before', async () => {
  const start = createThreadExecutor()
  const first = await openExecutor(start, mlpModel({ layers: randomLayers([2, 1], 1) }))
  first.run([Buffer.alloc(8)], { columns: 2 })
  await first.until(1)
  await first.executor.close()
  const second = await openExecutor(start, identityModel('UINT8'))
  second.run([Buffer.of(1, 2)])
  second.run([Buffer.of(3)])
  await second.until(2)
  expect(second.heard.map(({ bytes }) => [...bytes])).toEqual([[1, 2], [3]])
  await second.executor.close()
})

test('what models held is given back: memory does not grow with the number of models that came and went', async () => {
  const start = createThreadExecutor()
  const model = mlpModel({ layers: randomLayers([16, 2000, 2000, 1], 1) })
  const swap = async (times: number): Promise<number> => {
    for (let time = 0; time < times; time++) await (await openExecutor(start, model)).executor.close()
    return process.memoryUsage.rss()
  }
  const before = await swap(10)
  expect((await swap(30)) - before).toBeLessThan(15 * model.length)
})

test('a thread that is closed while it runs is not used again', async () => {
  const start = createThreadExecutor(script)
  const tell = async () => {
    const { executor, run, until, heard } = await openExecutor(start)
    run([Buffer.of(misdeed.tellThread)])
    await until(1)
    return { executor, run, id: heard[0]?.bytes[0] }
  }
  const first = await tell()
  await first.executor.close()
  const second = await tell()
  expect(second.id).toBe(first.id)
  second.run([Buffer.of(misdeed.slow)])
  await second.executor.close()
  const third = await tell()
  expect(third.id).not.toBe(first.id)
  await third.executor.close()
})
