import { readdirSync, readFileSync } from 'node:fs'
import { create, toBinary } from '@bufbuild/protobuf'
import { identityModel } from '@slipway/onnx'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { Code, Failure, type RawUnaryCall } from '@slipway/rpc'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createInference } from './infer.ts'
import { serve, type TestServer } from './testing.ts'

let server: TestServer
beforeAll(async () => {
  server = await serve([{ model: 'm', bytes: identityModel('FP32') }])
})
afterAll(() => server.stop())

const request = Buffer.from(
  toBinary(
    ModelInferRequestSchema,
    create(ModelInferRequestSchema, {
      modelName: 'm',
      id: 'an id',
      parameters: { timeout: { parameterChoice: { case: 'int64Param', value: 5_000_000n } } },
      inputs: [{ name: 'input', datatype: 'FP32', shape: [4n] }],
      outputs: [{ name: 'output' }],
      rawInputContents: [Buffer.alloc(16)],
    }),
  ),
)

/** The code with which bytes are answered as a unary call. */
function outcome(bytes: Buffer): Promise<Code> {
  const inference = createInference(server)
  return new Promise((resolve) => {
    const call: RawUnaryCall = {
      deadlineMs: Number.POSITIVE_INFINITY,
      cancelled: false,
      onCancel: () => {},
      header: () => undefined,
      answer: () => resolve(Code.OK),
      fail: (error) => resolve(Failure.from(error).code),
    }
    try {
      inference.unary(bytes, call)
    } catch (error) {
      resolve(Failure.from(error).code)
    }
  })
}

test('a request with any bytes changed is answered, or refused for what is wrong with it, and nothing breaks', async () => {
  const change = fc.array(fc.tuple(fc.nat(request.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 })
  const cut = fc.nat(request.length)
  await fc.assert(
    fc.asyncProperty(change, cut, async (changes, length) => {
      const bytes = Buffer.from(request)
      for (const [position, value] of changes) bytes[position] = value
      for (const variant of [bytes, bytes.subarray(0, length)]) {
        expect([Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.DEADLINE_EXCEEDED]).toContain(
          await outcome(variant),
        )
      }
    }),
    { numRuns: 3000 },
  )
  expect(await outcome(request)).toBe(Code.OK)
})

test('no module but the thread of an executor loads the model runtime', () => {
  const folder = new URL('.', import.meta.url)
  const sources = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(
    (name) => name.endsWith('.ts') && !name.endsWith('.test.ts') && !name.includes('node_modules'),
  )
  const loading = sources.filter((name) =>
    readFileSync(new URL(name, folder), 'utf8').includes("from 'onnxruntime-node'"),
  )
  expect(loading).toEqual(['executors/onnx-session.ts'])
})
