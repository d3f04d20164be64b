import { identityModel, mlpModel, randomLayers } from '@slipway/onnx'
import { afterEach, expect, test } from 'vitest'
import type { BatchResult, Executor } from './executor.ts'
import { createThreadExecutor } from './thread-executor.ts'

let executor: Executor | undefined
afterEach(() => executor?.close())

/** Starts an executor; what it answers is copied out, batch by batch. */
async function open(model: Uint8Array) {
  const answers: Buffer[] = []
  const dims: (readonly number[])[] = []
  let heard = (): void => {}
  const events = {
    done: (_: unknown, { outputs }: BatchResult) => {
      answers.push(Buffer.from(outputs[0]?.bytes ?? []))
      dims.push(outputs[0]?.dims ?? [])
      heard()
    },
    failed: (_: unknown, message: string) => expect.unreachable(message),
    died: (_: unknown, reason: string) => expect.unreachable(reason),
  }
  const started = await createThreadExecutor()({ model, intraOpThreads: 1, events })
  executor = started
  const run = (id: number, tensors: readonly Buffer[], columns?: number) => {
    const group = {
      id,
      inputs: [
        {
          name: columns ? 'features' : 'input',
          datatype: columns ? 'FP32' : 'UINT8',
          dims: columns ? [-1, columns] : [-1],
        } as const,
      ],
      outputs: [columns ? 'probability' : 'output'],
    }
    const rows = tensors.reduce((sum, { length }) => sum + length, 0) / (columns ? 4 * columns : 1)
    started.run({ group, rows, members: tensors.map((bytes) => ({ bytes, offsets: [0, bytes.length] })) })
  }
  const until = async (count: number): Promise<void> => {
    while (answers.length < count) await new Promise<void>((resolve) => (heard = resolve))
  }
  return { started, run, until, answers, dims }
}

test('two batches under way are answered in order, each from its own memory', async () => {
  const { started, run, until, answers } = await open(identityModel('UINT8'))
  run(1, [Buffer.of(1), Buffer.of(2, 3)])
  run(1, [Buffer.of(4)])
  expect(started.running).toBe(2)
  expect(() => run(1, [Buffer.of(5)])).toThrow('free slot')
  await until(2)
  expect(answers).toEqual([Buffer.of(1, 2, 3), Buffer.of(4)])
  expect(started.running).toBe(0)
})

test('batches of any size follow each other: buffers grow, and shrink again', async () => {
  const { run, until, answers } = await open(identityModel('UINT8'))
  const sizes = [1, 70_000, 3, 6_000_000, 5, 0, 9_000_000, 2]
  for (const [index, size] of sizes.entries()) {
    run(1, [Buffer.alloc(size, index)])
    await until(index + 1)
  }
  expect(answers.map(({ length }) => length)).toEqual(sizes)
  expect(answers.every((answer, index) => answer.every((byte) => byte === index))).toBe(true)
})

test('more groups than an executor remembers are introduced anew', async () => {
  const { run, until, dims } = await open(mlpModel({ layers: randomLayers([2, 1], 1) }))
  for (let id = 1; id <= 1100; id++) {
    run(id, [Buffer.alloc(16)], 2)
    await until(id)
  }
  run(1, [Buffer.alloc(8)], 2)
  await until(1101)
  expect(dims.at(-1)).toEqual([1, 1])
})

test('a model that the runtime refuses is refused with its text', async () => {
  const model = Buffer.from('no model at all')
  const events = { done: () => {}, failed: () => {}, died: () => {} }
  await expect(createThreadExecutor()({ model, intraOpThreads: 1, events })).rejects.toThrow(/model|protobuf/i)
})
