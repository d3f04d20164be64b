/** What clients of the protocol rely on and other servers get wrong, in messages, in bytes and on the wire. */
import { connect } from 'node:http2'
import { gzipSync } from 'node:zlib'
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { identityModel } from '@slipway/onnx'
import {
  type InferParameterSchema,
  type ModelInferRequest,
  ModelInferRequestSchema,
  type ModelInferResponse,
} from '@slipway/proto/inference/grpc_service'
import { Code, Failure } from '@slipway/rpc'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { MAX_ID_BYTES } from './known-heads.ts'
import { refusal } from './refusals.ts'
import type { Servable } from './servable.ts'
import { serve, type TestServer } from './testing.ts'

type Request = Exclude<MessageInitShape<typeof ModelInferRequestSchema>, ModelInferRequest>
type Parameter = NonNullable<MessageInitShape<typeof InferParameterSchema>['parameterChoice']>

const MAX_REQUEST_BYTES = 8 * 1024 * 1024

let server: TestServer
beforeAll(async () => {
  server = await serve(
    [
      { model: 'm', bytes: identityModel('FP32', [-1, 2]) },
      { model: 'm', number: '3', bytes: identityModel('FP32', [-1, 2]) },
      { model: 'free', bytes: identityModel('FP32', [-1, -1]) },
      { model: 'text', bytes: identityModel('BYTES', []) },
    ],
    { maxRequestRows: 1000, maxRequestBytes: MAX_REQUEST_BYTES },
  )
})
afterAll(() => server.stop())

const input = { name: 'input', datatype: 'FP32', shape: [1n, 2n] }
const raw = Buffer.alloc(8, 1)
const good: Request = { modelName: 'm', inputs: [input], rawInputContents: [raw] }
const ask = (change: Request = {}): Promise<ModelInferResponse> => server.client.modelInfer({ ...good, ...change })
const refused = async (change: Request) => Failure.from(await ask(change).catch((error: unknown) => error))
const encode = (request: Request) =>
  Buffer.from(toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, request)))

describe('a version', () => {
  test('that is not named is the default, and the answer names it', async () => {
    expect((await ask()).modelVersion).toBe('3')
    expect((await ask({ modelVersion: '1' })).modelVersion).toBe('1')
  })

  test.each(['01', '-1', '1.0', 'latest', ' 1'])('%j is none', async (modelVersion) => {
    expect(await refused({ modelVersion })).toMatchObject({ code: Code.NOT_FOUND, reason: 'UNKNOWN_VERSION' })
  })

  test.each<[string, Failure, Code, RegExp]>([
    [
      'cannot be loaded',
      refusal.loadFailed('x', '1', 'no such operator'),
      Code.FAILED_PRECONDITION,
      /^failed to load 'x'/,
    ],
    ['stops', refusal.stopping(), Code.UNAVAILABLE, /stopping/],
    ['is full', refusal.queueFull('x', '9 rows wait', 5), Code.RESOURCE_EXHAUSTED, /^Exceeds maximum queue size/],
    ['is too late', refusal.deadline('x'), Code.DEADLINE_EXCEEDED, /^Request timeout expired/],
    ['died', refusal.executorDied('x', '1'), Code.INTERNAL, /died/],
  ])('that %s says so by code and in words that clients look for', async (_, failure, code, message) => {
    server.models.set('x', '1', { kind: 'failed', failure })
    expect(await refused({ modelName: 'x' })).toMatchObject({ code, message: expect.stringMatching(message) })
    server.models.set('x', '1', undefined)
  })

  test('on its way is UNAVAILABLE and not ready', async () => {
    server.models.set('x', '1', { kind: 'loading' })
    expect(await refused({ modelName: 'x', modelVersion: '1' })).toMatchObject({
      code: Code.UNAVAILABLE,
      message: expect.stringMatching(/version 1 is not at ready state/),
    })
    expect(await server.client.modelReady({ name: 'x', version: '1' })).toMatchObject({ ready: false })
    server.models.set('x', '1', undefined)
  })

  test('that is quarantined is refused, and not ready', async () => {
    const served = { model: 'x', number: '1', name: 'models/x/versions/1', isQuarantined: true, counts: {} }
    server.models.set('x', '1', { kind: 'ready', served: served as Servable, readyTimeMs: 0 })
    expect(await refused({ modelName: 'x' })).toMatchObject({ code: Code.FAILED_PRECONDITION })
    expect(await server.client.modelReady({ name: 'x' })).toMatchObject({ ready: false })
    const { models } = await server.client.repositoryIndex({})
    expect(models.find(({ name }) => name === 'x')).toMatchObject({ state: 'UNAVAILABLE' })
    server.models.set('x', '1', undefined)
  })
})

describe('an id', () => {
  test.each(['größer', '日本', 'a\0b', ' ', '\u{1f600}', 'x'.repeat(MAX_ID_BYTES)])('%j comes back', async (id) => {
    expect((await ask({ id })).id).toBe(id)
    for await (const answer of server.client.modelStreamInfer(only({ ...good, id }))) {
      expect(answer).toMatchObject({ errorMessage: '', inferResponse: { id } })
    }
    const wrong = only({ ...good, id, rawInputContents: [raw.subarray(1)] })
    for await (const answer of server.client.modelStreamInfer(wrong)) {
      expect(answer).toMatchObject({ errorMessage: expect.stringMatching(/mismatch/), inferResponse: { id } })
    }
  })

  test('that is no text is INVALID_ARGUMENT', async () => {
    const bytes = Buffer.concat([encode(good), Buffer.of(0x1a, 2, 0xff, 0xfe)])
    expect(await sendBytes(bytes)).toMatchObject({ code: Code.INVALID_ARGUMENT, text: 'the id is not UTF-8' })
  })
})

describe('a parameter', () => {
  const uint = (value: bigint): Parameter => ({ case: 'uint64Param', value })
  const int = (value: bigint): Parameter => ({ case: 'int64Param', value })
  const text = (value: string): Parameter => ({ case: 'stringParam', value })
  const double = (value: number): Parameter => ({ case: 'doubleParam', value })
  const bool = (value: boolean): Parameter => ({ case: 'boolParam', value })
  const withParameter = (name: string, parameterChoice: Parameter): Request => ({
    parameters: { [name]: { parameterChoice } },
  })

  test.each<[string, Parameter]>([
    ['priority', uint(1n)],
    ['priority', int(0n)],
    ['timeout', int(60_000_000n)],
    ['timeout', uint(60_000_000n)],
    ['timeout', double(6e7)],
    ['timeout', int(0n)],
    ['timeout', uint(2n ** 64n - 1n)],
    ['sequence_id', uint(2n ** 64n - 1n)],
    ['sequence_id', text('a')],
    ['sequence_start', bool(true)],
    ['sequence_end', bool(true)],
    ['headers', text('a: b')],
    ['mine', double(Number.NaN)],
    ['größe', text('日本')],
    ['traceparent', text('not one')],
    ['triton_enable_empty_final_response', bool(false)],
  ])('%s of %o is taken', async (name, value) => {
    expect((await ask(withParameter(name, value))).rawOutputContents).toHaveLength(1)
  })

  test.each<[string, Parameter]>([
    ['priority', text('high')],
    ['priority', int(-1n)],
    ['priority', double(0.5)],
    ['priority', uint(2n ** 40n)],
    ['timeout', text('1s')],
    ['timeout', int(-1n)],
    ['timeout', double(Number.NaN)],
    ['timeout', bool(true)],
    ['triton_anything', bool(true)],
    [`triton_${'x'.repeat(10_000)}`, bool(true)],
  ])('%.30s of %o is INVALID_ARGUMENT that names it', async (name, value) => {
    const failure = await refused(withParameter(name, value))
    expect(failure.code).toBe(Code.INVALID_ARGUMENT)
    expect(failure.violations[0]?.field).toMatch(/^parameters\.[\w…]{1,130}$/)
  })

  test('without a value, or of a kind that is not known, is passed over', async () => {
    const entry = (value: number[]) => Buffer.of(0x22, value.length + 5, 0x0a, 1, 0x61, 0x12, value.length, ...value)
    for (const value of [[], [0x78, 1]]) {
      expect(await sendBytes(Buffer.concat([encode(good), entry(value)]))).toMatchObject({ code: Code.OK })
    }
  })

  test.each([
    ['of the wrong wire type', [0x09, 0, 0, 0, 0, 0, 0, 0, 0]],
    ['in text that is not UTF-8', [0x1a, 1, 0xff]],
    ['that is cut off', [0x1a, 5, 0x61]],
  ])('with a value %s is INVALID_ARGUMENT', async (_, value) => {
    const entry = Buffer.of(0x22, value.length + 5, 0x0a, 1, 0x61, 0x12, value.length, ...value)
    expect(await sendBytes(Buffer.concat([encode(good), entry]))).toMatchObject({ code: Code.INVALID_ARGUMENT })
  })

  test.each(['shared_memory_region', 'classification'])('%s of an output is refused by its name', async (name) => {
    const parameters = { [name]: { parameterChoice: int(1n) } }
    const failure = await refused({ outputs: [{ name: 'output', parameters }] })
    expect(failure).toMatchObject({ code: Code.INVALID_ARGUMENT, message: expect.stringMatching(/is not supported/) })
  })

  test('that asks which answer is the last is told that the only one is, unary and on a stream, raw and typed', async () => {
    const final = withParameter('triton_enable_empty_final_response', bool(true))
    const typedAnswers = { parameterChoice: { case: 'boolParam' as const, value: false } }
    const expected = { triton_final_response: { parameterChoice: bool(true) } }
    expect((await ask()).parameters.triton_final_response).toBeUndefined()
    expect((await ask(final)).parameters).toMatchObject(expected)
    const asked: Request = { outputs: [{ name: 'output', parameters: { binary_data_output: typedAnswers } }] }
    const typed = await ask({ ...final, ...asked })
    expect(typed.parameters).toMatchObject(expected)
    expect(typed.outputs[0]?.contents?.fp32Contents).toHaveLength(2)
    for await (const answer of server.client.modelStreamInfer(only({ ...good, ...final, ...asked }))) {
      expect(answer.inferResponse?.parameters).toMatchObject(expected)
    }
  })
})

describe('a request', () => {
  test('of more rows than a queue holds is INVALID_ARGUMENT', async () => {
    const rows = (count: number): Request => ({
      inputs: [{ ...input, shape: [BigInt(count), 2n] }],
      rawInputContents: [Buffer.alloc(8 * count)],
    })
    expect((await ask(rows(1000))).rawOutputContents[0]).toHaveLength(8000)
    expect(await refused(rows(1001))).toMatchObject({
      code: Code.INVALID_ARGUMENT,
      message: "inference request batch-size must be <= 1000 for 'm'",
    })
  })

  test('is answered up to the limit of a message, and RESOURCE_EXHAUSTED above', async () => {
    const element = Buffer.alloc(MAX_REQUEST_BYTES - 100, 'a')
    const prefix = Buffer.alloc(4)
    const request = (length: number): Request => {
      prefix.writeUInt32LE(length)
      return {
        modelName: 'text',
        inputs: [{ name: 'input', datatype: 'BYTES', shape: [] }],
        rawInputContents: [Buffer.concat([prefix, element.subarray(0, length)])],
      }
    }
    expect((await ask(request(element.length))).rawOutputContents[0]).toHaveLength(4 + element.length)
    prefix.writeUInt32LE(0)
    const tooLarge = { ...request(element.length), id: 'x'.repeat(200) }
    expect(await refused(tooLarge)).toMatchObject({ code: Code.RESOURCE_EXHAUSTED })
  })

  test('of zero rows in any dimension is answered with zero rows', async () => {
    for (const shape of [
      [0n, 5n],
      [5n, 0n],
      [0n, 0n],
    ]) {
      const request = { modelName: 'free', inputs: [{ ...input, shape }] }
      for (const rawInputContents of [[Buffer.alloc(0)], []]) {
        expect((await ask({ ...request, rawInputContents })).outputs[0]?.shape).toEqual(shape)
      }
    }
  })

  test('that answers with an error names no more than a line of what it was asked', async () => {
    const long = 'n'.repeat(100_000)
    for (const change of [
      { modelName: long },
      { modelVersion: long },
      { inputs: [{ ...input, name: long }] },
      { inputs: [{ ...input, datatype: long }] },
      { inputs: [{ ...input, shape: Array.from({ length: 10_000 }, () => 1n) }] },
      { outputs: [{ name: long }] },
    ]) {
      const failure = await refused(change)
      expect([Code.NOT_FOUND, Code.INVALID_ARGUMENT]).toContain(failure.code)
      expect(failure.message.length).toBeLessThan(600)
    }
  })
})

describe('on the wire', () => {
  test('a call that ends without a message is INVALID_ARGUMENT at once', async () => {
    expect(await sendFrames(Buffer.alloc(0), 'ModelInfer')).toMatchObject({ code: Code.INVALID_ARGUMENT })
  })

  test('a method of the protocol that the server does not have is UNIMPLEMENTED', async () => {
    expect(await sendBytes(Buffer.alloc(0), 'SystemSharedMemoryStatus')).toMatchObject({ code: Code.UNIMPLEMENTED })
  })

  test.each(['ModelInfer', 'ModelStreamInfer', 'ModelConfig'])(
    '%s reads a request compressed with gzip',
    async (method) => {
      const request = method === 'ModelConfig' ? Buffer.of(0x0a, 1, 0x6d) : encode({ ...good, id: 'x'.repeat(1000) })
      const compressed = gzipSync(request)
      const head = Buffer.alloc(5)
      head[0] = 1
      head.writeUInt32BE(compressed.length, 1)
      const answer = await sendFrames(Buffer.concat([head, compressed]), method, { 'grpc-encoding': 'gzip' })
      expect(answer).toMatchObject({ code: Code.OK })
    },
  )
})

async function* only(request: Request) {
  yield create(ModelInferRequestSchema, request)
}

/** Sends any bytes as the message of a call. */
function sendBytes(bytes: Buffer, method = 'ModelInfer') {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(bytes.length, 1)
  return sendFrames(Buffer.concat([head, bytes]), method)
}

/** Sends any bytes as the body of a call, and returns its status. */
function sendFrames(body: Buffer, method: string, headers: Readonly<Record<string, string>> = {}) {
  const session = connect(`http://${server.address}`)
  const stream = session.request({
    ':method': 'POST',
    ':path': `/inference.GRPCInferenceService/${method}`,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...headers,
  })
  return new Promise<{ code: number; text: string }>((resolve, reject) => {
    const told: Record<string, unknown> = {}
    stream.on('response', (head) => Object.assign(told, head))
    stream.on('trailers', (trailers) => Object.assign(told, trailers))
    stream.on('error', reject)
    stream.on('close', () => {
      session.destroy()
      resolve({ code: Number(told['grpc-status']), text: decodeURIComponent(String(told['grpc-message'] ?? '')) })
    })
    stream.resume()
    stream.end(body)
  })
}
