import { fromBinary } from '@bufbuild/protobuf'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { Code, Failure } from '@slipway/rpc'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { binaryBody } from './http-server.fixture.ts'
import { readInferRequest } from './infer-request.ts'

const to = { model: 'm', version: '3' }
const read = (body: Buffer, length?: string) => readInferRequest(to, body, length, 1_000_000)
const input = { name: 'x', datatype: 'INT16', shape: [2], data: [1, -2] }

test('a request becomes the message that a gRPC caller would send, without what only says where bytes are', () => {
  const json = {
    id: 'i',
    parameters: { timeout: 5, sequence_start: true, ratio: 0.5, note: 'n', binary_data_output: true },
    inputs: [input, { ...input, name: 'y', data: undefined, parameters: { binary_data_size: 4, unit: 'm' } }],
    outputs: [{ name: 'o', parameters: { binary_data: false, binary_data_output: false, rank: 1 } }],
  }
  const { body, headers } = binaryBody(json, Buffer.of(9, 0, 8, 0))
  const { message, timeoutMicros, outputs, form } = read(body, headers['Inference-Header-Content-Length'])
  const sent = fromBinary(ModelInferRequestSchema, message)
  const choice = (name: string, of: typeof sent.parameters) => of[name]?.parameterChoice
  expect(sent).toMatchObject({ modelName: 'm', modelVersion: '3', id: 'i' })
  expect(Object.keys(sent.parameters).sort()).toEqual(['note', 'ratio', 'sequence_start', 'timeout'])
  expect(choice('timeout', sent.parameters)).toEqual({ case: 'int64Param', value: 5n })
  expect(choice('ratio', sent.parameters)).toEqual({ case: 'doubleParam', value: 0.5 })
  expect(sent.inputs).toMatchObject([
    { name: 'x', datatype: 'INT16', shape: [2n] },
    { name: 'y', datatype: 'INT16', shape: [2n] },
  ])
  expect(Object.keys(sent.inputs[1]?.parameters ?? {})).toEqual(['unit'])
  expect(Object.keys(sent.outputs[0]?.parameters ?? {})).toEqual(['rank'])
  expect(sent.rawInputContents.map((raw) => Buffer.from(raw).toString('hex'))).toEqual(['0100feff', '09000800'])
  expect([timeoutMicros, outputs, form]).toEqual([5, ['o'], { isBinary: true, byOutput: new Map([['o', false]]) }])
})

test('a parameter keeps the digits of an integer, and its sign', () => {
  const value = (text: string) => {
    const body = Buffer.from(`{"inputs":[],"parameters":{"p":${text}}}`)
    return fromBinary(ModelInferRequestSchema, read(body).message).parameters.p?.parameterChoice
  }
  expect(value('-9223372036854775808')).toEqual({ case: 'int64Param', value: -(2n ** 63n) })
  expect(value('18446744073709551615')).toEqual({ case: 'uint64Param', value: 2n ** 64n - 1n })
  expect(value('1e300')).toEqual({ case: 'doubleParam', value: 1e300 })
  expect(() => value('18446744073709551616')).toThrow('parameters.p')
})

test('any bytes changed, or cut off, or a wrong length, are read or refused for what is wrong with them', () => {
  const json = { id: 'an id', inputs: [input, { ...input, data: undefined, parameters: { binary_data_size: 4 } }] }
  const { body, headers } = binaryBody(json, Buffer.alloc(4))
  const length = Number(headers['Inference-Header-Content-Length'])
  const changes = fc.array(fc.tuple(fc.nat(body.length - 1), fc.nat(255)), { maxLength: 3 })
  fc.assert(
    fc.property(changes, fc.nat(body.length), fc.integer({ min: -2, max: 2 }), (given, cut, off) => {
      const changed = Buffer.from(body)
      for (const [position, value] of given) changed[position] = value
      for (const bytes of [changed, changed.subarray(0, cut)]) {
        try {
          read(bytes, String(length + off))
        } catch (error) {
          expect(error).toBeInstanceOf(Failure)
          expect((error as Failure).code).toBe(Code.INVALID_ARGUMENT)
        }
      }
    }),
    { numRuns: 5000 },
  )
  expect(read(body, String(length)).message.length).toBeGreaterThan(0)
})
