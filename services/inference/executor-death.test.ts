import { identityModel } from '@slipway/onnx'
import { Code } from '@slipway/rpc'
import { afterEach, describe, expect, test } from 'vitest'
import { type RunOptions, ServedVersion } from './served-version.ts'
import { runOptions, scriptedExecutor, serve, type TestServer } from './testing.ts'

const model = { model: 'fragile', bytes: identityModel('UINT8') }
const startExecutor = scriptedExecutor('./executors/test-workers/fragile.ts')
let server: TestServer | undefined

afterEach(async () => {
  await server?.stop()
  server = undefined
})

async function open(change: Partial<RunOptions> = {}) {
  const deaths: string[] = []
  server = await serve([model], { startExecutor, onDeath: (_, reason) => deaths.push(reason), ...change })
  const { client } = server
  const ask = (value: number) =>
    client.modelInfer({
      modelName: 'fragile',
      inputs: [{ name: 'input', datatype: 'UINT8', shape: [1n] }],
      rawInputContents: [Buffer.of(value)],
    })
  return { ask, deaths, client }
}

describe('a request that kills its executor', () => {
  test('fails alone with a clear error; the others of its batch and those after it are answered', async () => {
    const { ask, deaths } = await open()
    const answers = await Promise.allSettled([1, 2, 66, 4, 5].map(ask))
    expect(answers.map(({ status }) => status)).toEqual([
      'fulfilled',
      'fulfilled',
      'rejected',
      'fulfilled',
      'fulfilled',
    ])
    expect(answers[2]).toMatchObject({ reason: { code: Code.INTERNAL, reason: 'EXECUTOR_DIED' } })
    expect(Buffer.from((await ask(7)).rawOutputContents[0] ?? [])).toEqual(Buffer.of(7))
    expect(deaths.length).toBeGreaterThan(0)
  })

  test('too often puts its version into quarantine, and nothing else', async () => {
    const { ask, client } = await open({
      restartPolicy: { firstDelayMs: 1, maxDelayMs: 1, maxDeaths: 3, windowMs: 60_000 },
    })
    await server?.add({ model: 'other', bytes: identityModel('UINT8') })
    for (let death = 0; death < 3; death++) await expect(ask(66)).rejects.toMatchObject({ code: Code.INTERNAL })
    await expect(ask(1)).rejects.toMatchObject({ code: Code.FAILED_PRECONDITION, reason: 'VERSION_QUARANTINED' })
    expect(await client.modelReady({ name: 'fragile' })).toMatchObject({ ready: false })
    expect(await client.modelReady({ name: 'other' })).toMatchObject({ ready: true })
  })
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
  await expect(ServedVersion.start(verified, runOptions({ startExecutor }))).rejects.toThrow('the model is refused')
})
