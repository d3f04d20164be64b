import { create, toBinary } from '@bufbuild/protobuf'
import { identityModel } from '@slipway/onnx'
import { ModelInferResponseSchema } from '@slipway/proto/inference/grpc_service'
import { Code, Failure } from '@slipway/rpc'
import { afterEach, describe, expect, onTestFinished, test } from 'vitest'
import { binaryBody, serveHttp } from './http-server.fixture.ts'
import { writeInferAnswer } from './infer-answer.ts'
import { type AnswerForm, type InferRequest, readInferRequest } from './infer-request.ts'
import { JsonWork } from './json-work.ts'

const MEBIBYTE = 1024 * 1024
const limits = { maxJsonBytes: 16 * MEBIBYTE, maxAnswerBytes: 64 * MEBIBYTE }
const addressee = { model: 'm', version: '2' }
const here = { cancelled: false }

let work = new JsonWork(limits)
afterEach(async () => {
  await work.close()
  work = new JsonWork(limits)
})

/** A request of so many values, with everything that a request can have. */
function request(values: number, change: object = {}): Buffer {
  const data = Array.from({ length: values }, (_, index) => index % 1000)
  return Buffer.from(
    JSON.stringify({
      id: 'größer',
      parameters: { timeout: 5_000_000, binary_data_output: true, priority: 2 },
      inputs: [{ name: 'input', datatype: 'INT64', shape: [values], data }],
      outputs: [{ name: 'output', parameters: { binary_data: false } }],
      ...change,
    }),
  )
}

const read = (body: Buffer, caller = here) => work.read(addressee, body, undefined, caller)

async function failureOf(asked: () => unknown): Promise<Failure> {
  try {
    await asked()
  } catch (error) {
    return Failure.from(error)
  }
  throw new Error('it did not fail')
}

describe('JsonWork', () => {
  test('reads a small body at once', () => {
    expect(read(request(10))).toMatchObject({ timeoutMicros: 5_000_000, outputs: ['output'] })
  })

  test('reads a large body in its thread, with the same result, while the event loop goes on', async () => {
    const body = request(200_000)
    const expected = readInferRequest(addressee, body, undefined, limits.maxJsonBytes)
    const order: string[] = []
    const reading = Promise.resolve(read(Buffer.from(body))).then((result) => {
      order.push('large')
      return result
    })
    read(request(10))
    order.push('small')
    await new Promise((resolve) => setImmediate(resolve))
    order.push('turn')
    const result: InferRequest = await reading
    expect(order).toEqual(['small', 'turn', 'large'])
    expect(result.message.equals(expected.message)).toBe(true)
    expect({ ...result, message: undefined }).toEqual({ ...expected, message: undefined })
  })

  test('reads JSON with binary data behind it, also where the body is part of larger memory', async () => {
    const head = { inputs: [{ name: 'input', datatype: 'BYTES', shape: [1], parameters: { binary_data_size: 104 } }] }
    const padded = { ...head, parameters: { padding: 'x'.repeat(100_000) } }
    const tensor = Buffer.concat([Buffer.of(100, 0, 0, 0), Buffer.alloc(100, 'y')])
    const { body, headers } = binaryBody(padded, tensor)
    const length = headers['Inference-Header-Content-Length']
    const within = Buffer.concat([Buffer.alloc(3), body, Buffer.alloc(5)]).subarray(3, 3 + body.length)
    const expected = readInferRequest(addressee, body, length, limits.maxJsonBytes)
    const { message } = await work.read(addressee, within, length, here)
    expect(message.equals(expected.message)).toBe(true)
    expect(within.equals(body)).toBe(true)
  })

  test.each([
    [
      'a value that is none',
      request(20_000, {
        inputs: [{ name: 'input', datatype: 'INT8', shape: [20_000], data: Array(20_000).fill(300) }],
      }),
    ],
    ['text that is no JSON', Buffer.concat([request(20_000), Buffer.from('}')])],
    ['bytes that are no text', Buffer.concat([request(20_000), Buffer.of(0xff)])],
    ['more than may come as JSON', Buffer.alloc(limits.maxJsonBytes + 1, ' ')],
  ])('says of %s what it would say at once', async (_, body) => {
    const expected = await failureOf(() => readInferRequest(addressee, body, undefined, limits.maxJsonBytes))
    const { code, reason, message, violations } = await failureOf(() => read(Buffer.from(body)))
    expect({ code, reason, message, violations }).toEqual({
      code: expected.code,
      reason: expected.reason,
      message: expected.message,
      violations: expected.violations,
    })
  })

  test('does nothing for a caller who has gone, and goes on with the next', async () => {
    const gone = { cancelled: false }
    const first = read(request(100_000))
    const second = failureOf(() => read(request(100_000), gone))
    const third = read(request(100_001))
    gone.cancelled = true
    await expect(first).resolves.toMatchObject({ outputs: ['output'] })
    expect((await second).code).toBe(Code.CANCELLED)
    await expect(third).resolves.toMatchObject({ outputs: ['output'] })
  })

  test('fails what waits when it is closed, and begins anew when it is asked again', async () => {
    const waiting = [0, 1].map(() => failureOf(() => read(request(100_000))))
    await work.close()
    for (const failure of await Promise.all(waiting)) expect(failure.code).toBe(Code.UNAVAILABLE)
    await expect(read(request(100_000))).resolves.toMatchObject({ outputs: ['output'] })
  })
})

test('answers are written as they would be at once; what is all binary is', async () => {
  const message = toBinary(
    ModelInferResponseSchema,
    create(ModelInferResponseSchema, {
      modelName: 'm',
      id: 'large',
      outputs: [{ name: 'output', datatype: 'INT64', shape: [50_000n] }],
      rawOutputContents: [Buffer.alloc(8 * 50_000, 7)],
    }),
  )
  const text = { isBinary: false, byOutput: new Map<string, boolean>() }
  const asked = (outputs: readonly string[], form: AnswerForm) => ({ outputs, form })
  const kept = Buffer.from(message)
  const writing = work.write(message, asked([], text), here)
  expect(writing).toBeInstanceOf(Promise)
  const { body, headers } = await writing
  const expected = writeInferAnswer(message, text, limits)
  expect({ isEqual: body.equals(expected.body), headers }).toEqual({ isEqual: true, headers: expected.headers })
  expect(kept.equals(message)).toBe(true)
  const binary = new Map([['output', true]])
  for (const wanted of [asked([], { ...text, isBinary: true }), asked(['output'], { ...text, byOutput: binary })])
    expect(work.write(message, wanted, here)).not.toBeInstanceOf(Promise)
  const mixed = work.write(message, asked(['output', 'other'], { ...text, byOutput: binary }), here)
  expect(mixed).toBeInstanceOf(Promise)
  await mixed
  const narrow = new JsonWork({ ...limits, maxJsonBytes: 1000 })
  const { code, message: why } = await failureOf(() => narrow.write(message, asked([], text), here))
  expect({ code, why }).toMatchObject({ code: Code.INVALID_ARGUMENT, why: expect.stringContaining('1000 bytes') })
  await narrow.close()
})

test('a prediction of a megabyte of JSON is answered value for value', async () => {
  const server = await serveHttp([{ model: 'm', bytes: identityModel('FP32') }])
  onTestFinished(() => server.stop())
  const values = Array.from({ length: 150_000 }, (_, index) => index / 8)
  const inputs = [{ name: 'input', datatype: 'FP32', shape: [values.length], data: values }]
  const { status, json } = await server.post('/v2/models/m/infer', { id: 'large', inputs })
  expect(status).toBe(200)
  const { id, outputs } = json as { id: string; outputs: { data: number[] }[] }
  expect({ id, data: outputs[0]?.data }).toEqual({ id: 'large', data: values })
})
