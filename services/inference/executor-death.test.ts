import { identityModel } from '@slipway/onnx'
import { Code, type Failure } from '@slipway/rpc'
import { afterEach, describe, expect, test } from 'vitest'
import type { StartExecutor } from './executors/executor.ts'
import { createProcessExecutor } from './executors/process-executor.ts'
import { misdeed } from './executors/test-workers/fragile-session.fixture.ts'
import { createThreadExecutor } from './executors/thread-executor.ts'
import { type RunOptions, ServedVersion } from './served-version.ts'
import { runOptions, serve, type TestServer } from './testing.ts'

const model = { model: 'fragile', bytes: identityModel('UINT8') }
const inThread = createThreadExecutor(new URL('./executors/test-workers/fragile.ts', import.meta.url))
const processScript = new URL('./executors/test-workers/fragile-process.ts', import.meta.url)
const inProcess = createProcessExecutor(processScript, { maxMemoryBytes: 300 * 1024 * 1024 })
const quickRestarts = { firstDelayMs: 1, maxDelayMs: 1, maxDeaths: 1000, windowMs: 60_000 }
let server: TestServer | undefined

afterEach(async () => {
  await server?.stop()
  server = undefined
})

async function open(change: Partial<RunOptions> = {}) {
  const deaths: string[] = []
  const replaced: string[] = []
  server = await serve([model], {
    onDeath: (_, reason) => deaths.push(reason),
    onReplaced: (_, reason) => replaced.push(reason),
    ...change,
  })
  const { client, models } = server
  const ask = async (value: number, modelName = 'fragile'): Promise<number | undefined> => {
    const { rawOutputContents } = await client.modelInfer({
      modelName,
      inputs: [{ name: 'input', datatype: 'UINT8', shape: [1n] }],
      rawInputContents: [Buffer.of(value)],
    })
    return rawOutputContents[0]?.[0]
  }
  return { ask, deaths, replaced, client, models }
}

describe.each<[string, StartExecutor, number]>([
  ['thread', inThread, misdeed.throw],
  ['process', inProcess, misdeed.segfault],
])('a request that kills its executor, a %s,', (_, startExecutor, deadly) => {
  test('fails alone with a clear error; the others of its batch and those after it are answered', async () => {
    const { ask, deaths } = await open({ startExecutor })
    const answers = await Promise.allSettled([1, 2, deadly, 4, 5].map((value) => ask(value)))
    expect(answers.map(({ status }) => status)).toEqual([
      'fulfilled',
      'fulfilled',
      'rejected',
      'fulfilled',
      'fulfilled',
    ])
    expect(answers[2]).toMatchObject({ reason: { code: Code.INTERNAL, reason: 'EXECUTOR_DIED' } })
    expect(await ask(7)).toBe(7)
    expect(deaths.length).toBeGreaterThan(0)
  })

  test('too often puts its version into quarantine, and nothing else', async () => {
    const { ask, client } = await open({ startExecutor, restartPolicy: { ...quickRestarts, maxDeaths: 3 } })
    await server?.add({ model: 'other', bytes: identityModel('UINT8') })
    for (let death = 0; death < 3; death++) await expect(ask(deadly)).rejects.toMatchObject({ code: Code.INTERNAL })
    await expect(ask(1)).rejects.toMatchObject({ code: Code.FAILED_PRECONDITION, reason: 'VERSION_QUARANTINED' })
    expect(await client.modelReady({ name: 'fragile' })).toMatchObject({ ready: false })
    expect(await client.modelReady({ name: 'other' })).toMatchObject({ ready: true })
  })

  test('again and again is noticed by nobody else: another model under load answers every request', async () => {
    const { ask, deaths } = await open({ startExecutor, restartPolicy: quickRestarts })
    await server?.add({ model: 'other', bytes: identityModel('UINT8') })
    let isOver = false
    let answered = 0
    const neighbours = Array.from({ length: 8 }, async (_, index) => {
      for (; !isOver; answered++) expect(await ask(index, 'other')).toBe(index)
    })
    const failures: Failure[] = []
    for (let round = 0; round < 5; round++) {
      const answers = await Promise.allSettled([1, deadly, 2].map((value) => ask(value)))
      for (const answer of answers) if (answer.status === 'rejected') failures.push(answer.reason as Failure)
    }
    isOver = true
    await Promise.all(neighbours)
    expect(failures.map(({ reason }) => reason)).toEqual(Array.from({ length: 5 }, () => 'EXECUTOR_DIED'))
    expect(deaths.length).toBeGreaterThanOrEqual(5)
    expect(answered).toBeGreaterThan(8)
  })
})

test('an executor that holds too much memory is replaced between two batches; no request fails', async () => {
  const { ask, deaths, replaced, models } = await open({ startExecutor: inProcess, restartPolicy: quickRestarts })
  for (let request = 0; replaced.length === 0; request++) await ask(request % 50 === 0 ? misdeed.leak : 1)
  const found = models.get('fragile', '1')
  expect(found?.kind === 'ready' && found.served.memoryBytes).toBeLessThan(300 * 1024 * 1024)
  expect(await ask(1)).toBe(1)
  expect(deaths).toEqual([])
})

test('an executor that ends while it loads refuses the model', async () => {
  const verified = {
    name: 'models/m/versions/1',
    model: 'm',
    number: '1',
    digest: '',
    sizeBytes: 0,
    signature: { inputs: [], outputs: [], takesRows: false },
    read: async () => Buffer.from('refuse'),
  }
  const options = runOptions({ startExecutor: inThread })
  await expect(ServedVersion.start(verified, options)).rejects.toThrow('the model is refused')
})
