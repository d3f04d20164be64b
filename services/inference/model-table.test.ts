import { mlpModel } from '@slipway/onnx'
import { Code } from '@slipway/rpc'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { refusal } from './refusals.ts'
import type { Servable } from './servable.ts'
import { serve, type TestServer } from './testing.ts'

const model = (answer: number) =>
  mlpModel({ layers: [{ inputs: 2, outputs: 1, weights: [0, 0], bias: [answer] }], sigmoid: false })

let server: TestServer
let first: Servable
beforeEach(async () => {
  server = await serve([])
  first = await server.add({ model: 'm', number: '1', bytes: model(1) })
})
afterEach(() => server.stop())

const unloaded = { kind: 'unloaded', unloadedTimeMs: 0 } as const
const ready = (served: Servable) => ({ kind: 'ready', served, readyTimeMs: 0 }) as const

describe('the model table', () => {
  test('waits for a version that was let go instead of another one, until it is there', async () => {
    const { models } = server
    const second = await server.add({ model: 'm', number: '2', bytes: model(2) })
    models.setDefault('m', '2')
    models.set('m', '2', unloaded)
    expect(() => models.resolve('m', '')).toThrow('not at ready state')
    models.set('m', '2', { kind: 'loading', isAgain: true })
    expect(() => models.resolve('m', '')).toThrow('not at ready state')
    expect(models.resolve('m', '1')).toBe(first)
    models.set('m', '2', ready(second))
    expect(models.resolve('m', '')).toBe(second)
  })

  test('lets the version before answer while a new default is on its way for the first time', () => {
    const { models } = server
    models.setDefault('m', '1')
    models.setDefault('m', '2')
    models.set('m', '2', { kind: 'loading' })
    expect(models.resolve('m', '')).toBe(first)
    models.set('m', '2', { kind: 'failed', failure: refusal.loadFailed('m', '2', 'no model') })
    expect(models.resolve('m', '')).toBe(first)
  })

  test('knows what stands for the default, also when it is not there', () => {
    const { models } = server
    expect([models.defaultNumber('m'), models.defaultNumber('x')]).toEqual(['1', undefined])
    models.set('m', '3', unloaded)
    models.set('m', '1', undefined)
    expect(models.defaultNumber('m')).toBe('3')
    expect([models.peek('m', ''), models.peek('m', '3')]).toEqual([undefined, undefined])
    models.setDefault('m', '2')
    expect(models.defaultNumber('m')).toBe('2')
    models.set('m', '1', ready(first))
  })

  test('makes no caller wait beyond its deadline', async () => {
    const { models, client } = server
    models.set('m', '2', unloaded)
    models.loadMissingWith(() => new Promise(() => undefined))
    const asked = client.modelInfer({
      modelName: 'm',
      modelVersion: '2',
      parameters: { timeout: { parameterChoice: { case: 'int64Param', value: 20_000n } } },
      inputs: [{ name: 'features', datatype: 'FP32', shape: [1n, 2n] }],
      rawInputContents: [Buffer.alloc(8)],
    })
    await expect(asked).rejects.toMatchObject({ code: Code.DEADLINE_EXCEEDED, reason: 'DEADLINE_EXCEEDED' })
  })
})
