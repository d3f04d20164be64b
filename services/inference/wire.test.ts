import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { type ModelInferRequest, ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MalformedMessage, readParameter, scanRequest } from './wire.ts'
import { checkHead } from './wire-check.ts'

const bytes = fc.uint8Array({ maxLength: 200 })
const choice = fc.oneof(
  fc.boolean().map((value) => ({ case: 'boolParam' as const, value })),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((value) => ({ case: 'int64Param' as const, value })),
  fc.string().map((value) => ({ case: 'stringParam' as const, value })),
  fc.double().map((value) => ({ case: 'doubleParam' as const, value })),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((value) => ({ case: 'uint64Param' as const, value })),
)
const parameters = fc.dictionary(
  fc.string(),
  choice.map((value) => ({ parameterChoice: value })),
  { maxKeys: 3, noNullPrototype: true },
)
const tensor = fc.record({
  name: fc.string(),
  datatype: fc.constantFrom('FP32', 'INT64', 'BYTES'),
  shape: fc.array(fc.bigInt({ min: -1n, max: 2n ** 40n }), { maxLength: 4 }),
})
const request = fc
  .record({
    modelName: fc.string(),
    modelVersion: fc.string(),
    id: fc.string(),
    parameters,
    inputs: fc.array(tensor, { maxLength: 3 }),
    outputs: fc.array(fc.record({ name: fc.string() }), { maxLength: 3 }),
    rawInputContents: fc.array(bytes, { maxLength: 3 }),
  })
  .map((fields) => create(ModelInferRequestSchema, fields))

const encode = (message: ModelInferRequest) => Buffer.from(toBinary(ModelInferRequestSchema, message))
const valuesOf = ({ parameters: all }: ModelInferRequest): Record<string, unknown> =>
  Object.fromEntries(Object.entries(all).map(([key, { parameterChoice }]) => [key, parameterChoice.value]))

describe('scanRequest', () => {
  test('finds in any request what a full decoder finds, also when pieces are appended and come twice', () => {
    fc.assert(
      fc.property(fc.array(request, { minLength: 1, maxLength: 3 }), (pieces) => {
        const whole = Buffer.concat(pieces.map(encode))
        const decoded = fromBinary(ModelInferRequestSchema, whole)
        const found = scanRequest(whole)
        expect(whole.toString('utf8', found.idStart, found.idEnd)).toBe(decoded.id)
        const raws = decoded.rawInputContents.map((_, index) =>
          whole.subarray(found.raws[2 * index], found.raws[2 * index + 1]),
        )
        expect(raws.map((raw) => raw.toString('hex'))).toEqual(
          decoded.rawInputContents.map((raw) => Buffer.from(raw).toString('hex')),
        )
        expect(found.raws.length).toBe(2 * decoded.rawInputContents.length)
        const head = fromBinary(ModelInferRequestSchema, Buffer.from(found.head, 'latin1'))
        expect({ ...head, id: decoded.id }).toEqual({ ...decoded, parameters: {}, rawInputContents: [] })
        const expected = valuesOf(decoded)
        const values: Record<string, unknown> = {}
        for (let index = 0; index < found.parameters.length; index += 2) {
          const { key, value } = readParameter(whole, found.parameters[index] ?? 0, found.parameters[index + 1] ?? 0)
          values[key] = value // of a key that comes twice the last one counts
        }
        for (const [key, value] of Object.entries(values))
          if (typeof value === 'number' && typeof expected[key] === 'bigint') values[key] = BigInt(value)
        expect(values).toEqual(expected)
      }),
    )
  })

  test('bytes that are no message give MalformedMessage and never another exception', () => {
    fc.assert(
      fc.property(fc.oneof(bytes, fc.tuple(request.map(encode), fc.nat(), fc.nat(255)).map(flip)), (input) => {
        try {
          const found = scanRequest(Buffer.from(input))
          for (const position of [...found.raws, found.idStart, found.idEnd]) {
            expect(position).toBeGreaterThanOrEqual(0)
            expect(position).toBeLessThanOrEqual(input.length)
          }
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedMessage)
        }
      }),
      { numRuns: 2000 },
    )
  })
})

describe('checkHead', () => {
  test('takes every request that was encoded', () => {
    fc.assert(
      fc.property(fc.array(request, { minLength: 1, maxLength: 3 }), (pieces) => {
        expect(() => checkHead(Buffer.concat(pieces.map(encode)))).not.toThrow()
      }),
    )
  })

  test.each([
    ['a name that goes on behind its input', [0x2a, 2, 0x0a, 5, 1, 2, 3, 4, 5]],
    ['a name as a number', [0x2a, 2, 0x08, 1]],
    ['a packed shape that ends in the middle of a size', [0x2a, 3, 0x1a, 1, 0x80, 0x01]],
    ['a shape in fixed width', [0x2a, 5, 0x1d, 1, 0, 0, 0]],
    ['floats that are cut off', [0x2a, 7, 0x2a, 5, 0x32, 3, 0, 0, 0]],
    ['an input as a number', [0x28, 1]],
    ['a parameter of an output that goes on behind it', [0x32, 4, 0x12, 2, 0x0a, 4, 1, 2, 3, 4]],
    ['a group', [0x53, 0x54]],
    ['a field number beyond all', [0xfa, 0xff, 0xff, 0xff, 0x7f, 0]],
    ['a length in six bytes', [0x0a, 0x81, 0x80, 0x80, 0x80, 0x80, 0x00, 0x61]],
  ])('refuses %s', (_, head) => {
    expect(() => checkHead(Buffer.from(head))).toThrow(MalformedMessage)
  })

  test('takes lists packed or not, empty ones, and fields that nobody knows', () => {
    for (const head of [
      [0x2a, 4, 0x18, 1, 0x18, 2],
      [0x2a, 4, 0x1a, 2, 1, 2],
      [0x2a, 2, 0x1a, 0],
      [0x2a, 7, 0x2a, 5, 0x35, 0, 0, 0, 0],
      [0x7a, 1, 0xff, 0x70, 0x81, 0x01],
    ]) {
      expect(() => checkHead(Buffer.from(head))).not.toThrow()
    }
  })
})

/** A message with one byte changed. */
function flip([message, position, value]: [Buffer, number, number]): Uint8Array {
  const changed = Uint8Array.from(message)
  if (changed.length > 0) changed[position % changed.length] = value
  return changed
}
