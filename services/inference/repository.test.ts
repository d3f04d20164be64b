import { identityModel } from '@slipway/onnx'
import { Health, HealthCheckResponse_ServingStatus as Status } from '@slipway/proto/grpc/health/v1/health'
import { type Client, Code, createClient, Failure } from '@slipway/rpc'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { ModelHealth } from './model-health.ts'
import { ModelTable } from './model-table.ts'
import type { Servable } from './servable.ts'
import { serve, type TestServer } from './testing.ts'

let server: TestServer
let health: Client<typeof Health>
let asked: string[] = []

beforeAll(async () => {
  server = await serve(
    [
      { model: 'm', number: '1', bytes: identityModel('FP32') },
      { model: 'm', number: '10', bytes: identityModel('FP32') },
      { model: 'm', number: '2', bytes: identityModel('FP32') },
    ],
    {
      repository: {
        load: async (model) => void asked.push(`load ${model}`),
        unload: async (model) => void asked.push(`unload ${model}`),
      },
    },
  )
  health = createClient(Health, { address: server.address })
})
afterAll(async () => {
  health.close()
  await server.stop()
})
beforeEach(() => {
  asked = []
})

describe('the repository', () => {
  test('lists every version with its state and why, by model and number', async () => {
    const failure = new Failure(Code.FAILED_PRECONDITION, 'LOAD_FAILED', "failed to load 'x' version 1: no")
    const ready = server.models.get('m', '2')
    server.models.set('x', '1', { kind: 'failed', failure })
    server.models.set('x', '2', { kind: 'loading' })
    if (ready?.kind === 'ready') server.models.set('m', '2', { kind: 'unloading', served: ready.served })
    const { models } = await server.client.repositoryIndex({})
    expect(models.map(({ name, version, state, reason }) => [name, version, state, reason])).toEqual([
      ['m', '1', 'READY', ''],
      ['m', '2', 'UNLOADING', ''],
      ['m', '10', 'READY', ''],
      ['x', '1', 'UNAVAILABLE', "failed to load 'x' version 1: no"],
      ['x', '2', 'LOADING', ''],
    ])
    const onlyReady = await server.client.repositoryIndex({ ready: true })
    expect(onlyReady.models.map(({ version }) => version)).toEqual(['1', '10'])
    server.models.set('x', '1', undefined)
    server.models.set('x', '2', undefined)
    if (ready) server.models.set('m', '2', ready)
  })

  test('has models loaded and let go by their names', async () => {
    await server.client.repositoryModelLoad({ modelName: 'm' })
    await server.client.repositoryModelUnload({
      modelName: 'm',
      parameters: { unload_dependents: { parameterChoice: { case: 'boolParam', value: true } } },
    })
    expect(asked).toEqual(['load m', 'unload m'])
  })

  const text = { parameterChoice: { case: 'stringParam' as const, value: '{}' } }
  test.each([
    ['a configuration instead of its own', { modelName: 'm', parameters: { config: text } }, /cannot be overridden/],
    ['files instead of its own', { modelName: 'm', parameters: { 'file:1/model.onnx': text } }, /cannot be overridden/],
    ['a parameter that is not known', { modelName: 'm', parameters: { wait: text } }, /unknown parameter 'wait'/],
    ['no model', {}, /must be named/],
    ['another repository', { modelName: 'm', repositoryName: 'r'.repeat(10_000) }, /^.{0,300}$/],
  ])('refuses to load a model with %s', async (_, request, message) => {
    await expect(server.client.repositoryModelLoad(request)).rejects.toMatchObject({
      code: Code.INVALID_ARGUMENT,
      message: expect.stringMatching(message),
    })
    expect(asked).toEqual([])
  })

  test('refuses an unload that says something else than true or false of dependents', async () => {
    const request = { modelName: 'm', parameters: { unload_dependents: text } }
    await expect(server.client.repositoryModelUnload(request)).rejects.toMatchObject({ code: Code.INVALID_ARGUMENT })
  })

  test('without one, loading is UNIMPLEMENTED and listing is not', async () => {
    const bare = await serve([])
    await expect(bare.client.repositoryModelLoad({ modelName: 'm' })).rejects.toMatchObject({
      code: Code.UNIMPLEMENTED,
    })
    expect((await bare.client.repositoryIndex({})).models).toEqual([])
    await bare.stop()
  })
})

describe('health', () => {
  test('has a service for each model and each version, in step with the table', async () => {
    expect(await health.check({ service: 'm' })).toMatchObject({ status: Status.SERVING })
    expect(await health.check({ service: 'm/10' })).toMatchObject({ status: Status.SERVING })
    for (const service of ['m/3', 'nope', 'x'.repeat(10_000)]) {
      await expect(health.check({ service })).rejects.toMatchObject({ code: Code.NOT_FOUND })
    }
    server.models.set('m', '3', { kind: 'loading' })
    expect(await health.check({ service: 'm/3' })).toMatchObject({ status: Status.NOT_SERVING })
    server.models.set('m', '3', undefined)
    await expect(health.check({ service: 'm/3' })).rejects.toMatchObject({ code: Code.NOT_FOUND })
  })

  test('a watcher of a model hears that it comes and goes', async () => {
    const watch = health.watch({ service: 'later' })[Symbol.asyncIterator]()
    expect((await watch.next()).value?.status).toBe(Status.SERVICE_UNKNOWN)
    server.models.set('later', '1', { kind: 'loading' })
    expect((await watch.next()).value?.status).toBe(Status.NOT_SERVING)
    const served = await server.add({ model: 'later', bytes: identityModel('FP32') })
    expect((await watch.next()).value?.status).toBe(Status.SERVING)
    server.models.set('later', '1', undefined)
    expect((await watch.next()).value?.status).toBe(Status.SERVICE_UNKNOWN)
    await watch.return?.()
    await served.close()
  })

  test('a model whose default is quarantined is not serving, one that is loaded again when it is asked for is', () => {
    const models = new ModelTable()
    const told = new Map<string, boolean | undefined>()
    new ModelHealth(models, {
      set: (service, isServing) => void told.set(service, isServing),
      forget: (service) => void told.set(service, undefined),
    })
    const served = { name: 'models/q/versions/1', model: 'q', number: '1', isQuarantined: false }
    models.set('q', '1', { kind: 'ready', served: served as Servable, readyTimeMs: 0 })
    expect(Object.fromEntries(told)).toEqual({ q: true, 'q/1': true })
    served.isQuarantined = true
    models.changed('q', '1')
    expect(Object.fromEntries(told)).toEqual({ q: false, 'q/1': false })
    models.set('q', '1', { kind: 'unloaded', unloadedTimeMs: 0 })
    expect(Object.fromEntries(told)).toEqual({ q: true, 'q/1': true })
    models.set('q', '1', { kind: 'loading' })
    expect(Object.fromEntries(told)).toEqual({ q: false, 'q/1': false })
    models.set('q', '1', undefined)
    expect(Object.fromEntries(told)).toEqual({ q: undefined, 'q/1': undefined })
  })
})
