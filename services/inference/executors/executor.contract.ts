import { identityModel, mlpModel, randomLayers } from '@slipway/onnx'
import { afterEach, describe, expect, test } from 'vitest'
import type { Batch, BatchResult, Executor, StartExecutor } from './executor.ts'
import { misdeed } from './test-workers/fragile-session.fixture.ts'

/** What the contract test needs to know of an adapter. */
export interface ExecutorUnderTest {
  /** Starts ONNX Runtime. */
  readonly start: StartExecutor
  /** Starts the fragile model, with little JavaScript memory. */
  readonly startFragile: StartExecutor
  /** The deaths that it keeps to itself. */
  readonly deaths: readonly (keyof typeof misdeed)[]
}

type Ending = 'done' | 'failed' | 'skipped' | 'died'

/** Starts an executor; what it answers is copied out, in the order in which it is heard. */
export async function openExecutor(start: StartExecutor, model: Uint8Array = Buffer.from('fragile')) {
  const heard: { ending: Ending; batch: Batch | undefined; text: string; bytes: Buffer; dims: readonly number[] }[] = []
  const worn: string[] = []
  let tell = (): void => {}
  const note = (ending: Ending, batch: Batch | undefined, text = '', result?: BatchResult): void => {
    const [output] = result?.outputs ?? []
    heard.push({ ending, batch, text, bytes: Buffer.from(output?.bytes ?? []), dims: output?.dims ?? [] })
    tell()
  }
  const executor = await start({
    name: 'm',
    model,
    intraOpThreads: 1,
    events: {
      done: (batch, result) => note('done', batch, '', result),
      failed: (batch, message) => note('failed', batch, message),
      skipped: (batch) => note('skipped', batch),
      died: (batches, reason) => {
        if (batches.length === 0) note('died', undefined, reason)
        for (const batch of batches) note('died', batch, reason)
      },
      worn: (reason) => worn.push(reason),
    },
  })
  const run = (
    tensors: readonly Buffer[],
    { id = 1, columns = 0, notAfterMs = Number.POSITIVE_INFINITY } = {},
  ): Batch => {
    const input = columns
      ? ({ name: 'features', datatype: 'FP32', dims: [-1, columns] } as const)
      : ({ name: 'input', datatype: 'UINT8', dims: [-1] } as const)
    const group = { id, inputs: [input], outputs: [columns ? 'probability' : 'output'] }
    const rows = tensors.reduce((sum, { length }) => sum + length, 0) / (columns ? 4 * columns : 1)
    const batch = { group, rows, notAfterMs, members: tensors.map((bytes) => ({ bytes, offsets: [0, bytes.length] })) }
    executor.run(batch)
    return batch
  }
  const until = async (count: number): Promise<void> => {
    while (heard.length < count) await new Promise<void>((resolve) => (tell = resolve))
  }
  return { executor, run, until, heard, worn }
}

/** Checks every promise of the port; each adapter's test calls it. */
export function executorContract({ start, startFragile, deaths }: ExecutorUnderTest): void {
  let opened: Executor | undefined
  const open = async (from: StartExecutor, model?: Uint8Array) => {
    const result = await openExecutor(from, model)
    opened = result.executor
    return result
  }
  afterEach(() => opened?.close())

  test('1 and 2: as many batches as it has slots are under way, and answered in order', async () => {
    const { executor, run, until, heard } = await open(start, identityModel('UINT8'))
    let next = 0
    for (let round = 1; round <= 20; round++) {
      while (executor.running < executor.slots) run([Buffer.of(next++), Buffer.of(next++)])
      expect(() => run([Buffer.of(0)])).toThrow('free slot')
      await until(executor.slots * round)
      expect(executor.running).toBe(0)
    }
    expect(Buffer.concat(heard.map(({ bytes }) => bytes))).toEqual(
      Buffer.from(Array.from({ length: next }, (_, i) => i)),
    )
  })

  test('batches of any size follow each other: memory grows, and shrinks again', async () => {
    const { run, until, heard } = await open(start, identityModel('UINT8'))
    const sizes = [1, 70_000, 3, 6_000_000, 5, 0, 9_000_000, 2, 40_000_000, 1]
    for (const [index, size] of sizes.entries()) {
      run([Buffer.alloc(size, index)])
      await until(index + 1)
    }
    expect(heard.map(({ bytes }) => bytes.length)).toEqual(sizes)
    expect(heard.every(({ bytes }, index) => bytes.every((byte) => byte === index))).toBe(true)
  })

  test('more groups than an executor remembers are introduced anew', async () => {
    const { run, until, heard } = await open(start, mlpModel({ layers: randomLayers([2, 1], 1) }))
    for (let id = 1; id <= 1100; id++) {
      run([Buffer.alloc(16)], { id, columns: 2 })
      await until(id)
    }
    run([Buffer.alloc(8)], { columns: 2 })
    await until(1101)
    expect(heard.at(-1)).toMatchObject({ ending: 'done', dims: [1, 1] })
  })

  test('3: a batch that the runtime refuses leaves the executor whole', async () => {
    const { run, until, heard } = await open(startFragile)
    run([Buffer.of(misdeed.refuse)])
    await until(1)
    run([Buffer.of(1)])
    await until(2)
    expect(heard).toMatchObject([{ ending: 'failed', text: 'the inputs are refused' }, { ending: 'done' }])
  })

  describe('3: what goes wrong inside ends the executor and nothing outside it:', () => {
    test.each(deaths)('%s', async (kind) => {
      const bystander = await openExecutor(start, identityModel('UINT8'))
      const { executor, run, until, heard } = await open(startFragile)
      const batch = run([Buffer.of(misdeed[kind])])
      await until(1)
      expect(heard).toMatchObject([{ ending: 'died', batch }])
      expect(heard[0]?.text).not.toBe('')
      expect(executor.running).toBe(0)
      bystander.run([Buffer.of(1)])
      await bystander.until(1)
      await bystander.executor.close()
      expect(bystander.heard).toMatchObject([{ ending: 'done' }])
    })
  })

  test('4: a batch whose time was up before its run began is skipped', async () => {
    const { run, until, heard } = await open(startFragile)
    run([Buffer.of(1)], { notAfterMs: Date.now() - 1 })
    await until(1)
    run([Buffer.of(1)], { notAfterMs: Date.now() + 60_000 })
    await until(2)
    expect(heard.map(({ ending }) => ending)).toEqual(['skipped', 'done'])
  })

  test('4: a batch that waits behind another is skipped when it is withdrawn, or when its time is up by then', async () => {
    const { executor, run, until, heard } = await open(startFragile)
    if (executor.slots < 2) return
    run([Buffer.of(misdeed.slow)])
    executor.withdraw(run([Buffer.of(1)]))
    await until(2)
    run([Buffer.of(misdeed.slow)])
    run([Buffer.of(1)], { notAfterMs: Date.now() + 10 })
    await until(4)
    expect(heard.map(({ ending }) => ending)).toEqual(['done', 'skipped', 'done', 'skipped'])
  })

  test('a model that the runtime refuses is refused with its text, by the runtime and by its end', async () => {
    await expect(openExecutor(start, Buffer.from('no model at all'))).rejects.toThrow(/model|protobuf/i)
    await expect(openExecutor(startFragile, Buffer.from('refuse'))).rejects.toThrow('the model is refused')
    await expect(openExecutor(startFragile, Buffer.from('die'))).rejects.toThrow(/ended while loading.*7/)
  })

  test('a start that is given up ends', async () => {
    const events = { done: () => {}, failed: () => {}, died: () => {} }
    const options = { name: 'm', model: Buffer.from('sleep'), intraOpThreads: 1, events }
    await expect(startFragile({ ...options, signal: AbortSignal.timeout(50) })).rejects.toThrow('given up')
    await expect(startFragile({ ...options, signal: AbortSignal.abort() })).rejects.toThrow('given up')
  })

  test("the server's environment does not reach it", async () => {
    await expect(openExecutor(startFragile, Buffer.from('environment'))).rejects.toThrow(/^environment: $/)
  })

  test('5: what is closed tells of no death, whatever it did', async () => {
    const { executor, run, heard } = await open(startFragile)
    run([Buffer.of(misdeed.slow)])
    await executor.close()
    await executor.close()
    expect(heard).toEqual([])
  })

  test('it tells how much memory it holds: a larger model holds more', async () => {
    const small = await openExecutor(start, identityModel('UINT8'))
    const large = await open(start, mlpModel({ layers: randomLayers([16, 2000, 2000, 1], 1) }))
    const grown = large.executor.memoryBytes - small.executor.memoryBytes
    await small.executor.close()
    expect(small.executor.memoryBytes).toBeGreaterThan(1e6)
    expect(grown).toBeGreaterThan(10e6)
    expect(grown).toBeLessThan(200e6)
  })
}
