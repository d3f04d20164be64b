import { fromBinary } from '@bufbuild/protobuf'
import { ModelInferRequestSchema, ModelInferResponseSchema } from '@slipway/proto/inference/grpc_service'
import { expect, test } from 'vitest'
import { type Example, exampleFile, exampleFiles } from './example.ts'

const example: Example = {
  inputs: [
    { name: 'x', datatype: 'FP32', shape: [2, 1], data: [1.5, Number.NaN] },
    { name: 'id', datatype: 'INT64', shape: [2], data: [2n ** 62n, -1] },
    { name: 'text', datatype: 'BYTES', shape: [2], data: ['ä', ''] },
  ],
  outputs: [{ name: 'y', datatype: 'FP16', shape: [2], data: Float64Array.of(0.5, -2) }],
  tolerance: { relative: 0.1 },
}

test('an example becomes two messages of the protocol, in raw form', () => {
  const files = exampleFiles(example)
  const request = fromBinary(ModelInferRequestSchema, files[exampleFile.request] ?? new Uint8Array())
  expect(request.inputs.map(({ name, datatype, shape }) => [name, datatype, shape])).toEqual([
    ['x', 'FP32', [2n, 1n]],
    ['id', 'INT64', [2n]],
    ['text', 'BYTES', [2n]],
  ])
  const [x, id, text] = request.rawInputContents.map((raw) => Buffer.from(raw))
  expect([x?.readFloatLE(0), x?.readFloatLE(4)]).toEqual([1.5, Number.NaN])
  expect([id?.readBigInt64LE(0), id?.readBigInt64LE(8)]).toEqual([2n ** 62n, -1n])
  expect(text?.toString('hex')).toBe('02000000c3a400000000')
  const response = fromBinary(ModelInferResponseSchema, files[exampleFile.response] ?? new Uint8Array())
  expect(response.rawOutputContents.map((raw) => Buffer.from(raw).toString('hex'))).toEqual(['003800c0'])
  expect(response.parameters).toMatchObject({ relative_tolerance: { parameterChoice: { value: 0.1 } } })
  expect(Object.keys(response.parameters)).toHaveLength(1)
})

test('without an answer there is only a request', () => {
  expect(Object.keys(exampleFiles({ inputs: example.inputs }))).toEqual([exampleFile.request])
})

test.each([
  ['x has 1 values, its shape wants 2', { name: 'x', datatype: 'FP32', shape: [2], data: [1] }],
  ['x has datatype BF16, which an example cannot carry', { name: 'x', datatype: 'BF16', shape: [1], data: [1] }],
  ['x has a text among its values, and is FP32', { name: 'x', datatype: 'FP32', shape: [1], data: ['1'] }],
  ['element 1 of x does not fit INT64', { name: 'x', datatype: 'INT64', shape: [2], data: [1, 1.5] }],
])('%s', (message, input) => {
  expect(() => exampleFiles({ inputs: [input] })).toThrow(message)
})
