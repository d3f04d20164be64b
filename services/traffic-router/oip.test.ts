import { fromBinary, toBinary } from '@bufbuild/protobuf'
import { ModelInferRequestSchema, type ModelInferResponse } from '@slipway/proto/inference/grpc_service'
import { Code } from '@slipway/rpc'
import { afterEach, describe, expect, test } from 'vitest'
import { startTestRouter, type TestRouter } from './router.fixture.ts'
import { testVersion } from './upstreams.fixture.ts'

let router: TestRouter
afterEach(async () => await router.stop())

async function startWithEndpoint(): Promise<void> {
  router = await startTestRouter()
  await router.routing.createEndpoint({
    endpoint: {
      name: 'endpoints/flight-delay',
      variants: [
        { name: 'champion', target: 'models/flights/versions/1', weightBasisPoints: 10_000 },
        { name: 'next', target: 'models/flights/versions/2', weightBasisPoints: 0 },
      ],
    },
  })
}

function request(id: string, first: number, more: { version?: string; model?: string } = {}) {
  const raw = Buffer.alloc(12)
  raw.writeFloatLE(first)
  return {
    modelName: more.model ?? 'flight-delay',
    modelVersion: more.version ?? '',
    id,
    inputs: [{ name: 'x', datatype: 'FP32', shape: [1n, 3n] }],
    rawInputContents: [raw],
  }
}

const outputs = (response: ModelInferResponse | undefined): number[] => {
  const raw = Buffer.from(response?.rawOutputContents[0] ?? [])
  return [raw.readFloatLE(0), raw.readFloatLE(4)]
}
const parameter = (response: ModelInferResponse, name: string) => response.parameters[name]?.parameterChoice.value

async function* send(requests: readonly ReturnType<typeof request>[]) {
  yield* requests
}

describe('the Open Inference Protocol', () => {
  test('a request for the endpoint is answered by its version, with the caller’s id and the endpoint’s name', async () => {
    await startWithEndpoint()
    const response = await router.oip.modelInfer(request('request-0001', 42))
    expect(outputs(response)).toEqual([42, 1])
    expect(response).toMatchObject({ modelName: 'flight-delay', modelVersion: '1', id: 'request-0001' })
    expect(parameter(response, 'prediction_id')).toBe('request-0001')
    expect(parameter(response, 'variant')).toBe('champion')
    expect(parameter(response, 'model')).toBe('flights')
    expect(parameter(response, 'slipway_digest')).toBe(testVersion(1).digest)
  })

  test('an id that cannot name a prediction comes back as it was, beside a prediction id of its own', async () => {
    await startWithEndpoint()
    for (const id of ['', '1', 'ein bißchen länger']) {
      const response = await router.oip.modelInfer(request(id, 1))
      expect(response.id).toBe(id)
      expect(parameter(response, 'prediction_id')).toMatch(/^[0-9a-f-]{36}$/)
    }
  })

  test('a request that asks for a version gets it, without any weight', async () => {
    await startWithEndpoint()
    expect(outputs(await router.oip.modelInfer(request('', 1, { version: '2' })))).toEqual([1, 2])
    const unknown = await router.oip.modelInfer(request('', 1, { version: '9' })).catch((error: unknown) => error)
    expect(unknown).toMatchObject({ code: Code.NOT_FOUND, reason: 'VERSION_NOT_FOUND' })
  })

  test('an unknown model is NOT_FOUND in the words that clients look for, cut to a bounded length', async () => {
    await startWithEndpoint()
    const long = 'x'.repeat(10_000)
    const error = await router.oip.modelInfer(request('', 1, { model: long })).catch((failure: unknown) => failure)
    expect(error).toMatchObject({ code: Code.NOT_FOUND })
    expect(String(error)).toMatch(/Request for unknown model: 'x{128}' is not found/)
  })

  test('a stream answers each request under its own id, failed ones too, and goes on', async () => {
    await startWithEndpoint()
    const requests = [request('a', 1), request('b', -1), request('c', 3), request('d', 1, { model: 'other' })]
    const answers = new Map<string, { error: string; outputs: number[] }>()
    for await (const { errorMessage, inferResponse } of router.oip.modelStreamInfer(send(requests))) {
      const isFailed = errorMessage !== ''
      answers.set(inferResponse?.id ?? '', { error: errorMessage, outputs: isFailed ? [] : outputs(inferResponse) })
    }
    expect(answers.get('a')).toEqual({ error: '', outputs: [1, 1] })
    expect(answers.get('b')?.error).toContain('row 0 is negative')
    expect(answers.get('c')).toEqual({ error: '', outputs: [3, 1] })
    expect(answers.get('d')?.error).toContain('Request for unknown model')
  })

  test('a caller that asks for it gets the first failure as the status of the stream', async () => {
    await startWithEndpoint()
    const headers = { triton_grpc_error: 'true' }
    const answers = router.oip.modelStreamInfer(send([request('a', -1)]), { headers })
    const read = async (): Promise<void> => {
      for await (const answer of answers) expect(answer).toBeUndefined()
    }
    expect(await read().catch((error: unknown) => error)).toMatchObject({
      code: Code.INVALID_ARGUMENT,
      reason: 'NEGATIVE',
    })
  })

  test('thousands of requests on one stream are all answered, each with its own numbers', async () => {
    await startWithEndpoint()
    const requests = Array.from({ length: 3_000 }, (_, index) => request(`r${index}`, index))
    let answered = 0
    for await (const { inferResponse } of router.oip.modelStreamInfer(send(requests))) {
      expect(inferResponse?.id).toBe(`r${outputs(inferResponse)[0]}`)
      answered++
    }
    expect(answered).toBe(3_000)
  })

  test('metadata, readiness and liveness speak of the endpoint', async () => {
    await startWithEndpoint()
    const metadata = await router.oip.modelMetadata({ name: 'flight-delay' })
    expect(metadata).toMatchObject({ name: 'flight-delay', versions: ['1', '2'] })
    expect(metadata.inputs[0]).toMatchObject({ name: 'x', datatype: 'FP32', shape: [-1n, 3n] })
    expect(await router.oip.serverLive({})).toMatchObject({ live: true })
    await expect.poll(async () => (await router.oip.modelReady({ name: 'flight-delay' })).ready).toBe(true)
    expect(await router.oip.modelReady({ name: 'other' })).toMatchObject({ ready: false })
  })

  test('fields that the router does not know pass through', async () => {
    await startWithEndpoint()
    const plain = toBinary(
      ModelInferRequestSchema,
      fromBinary(ModelInferRequestSchema, Buffer.from([0xfa, 0x3f, 1, 7])),
    )
    expect(plain.length).toBeGreaterThan(0)
    const response = await router.oip.modelInfer({ ...request('', 5), outputs: [{ name: 'y' }] })
    expect(outputs(response)).toEqual([5, 1])
  })
})
