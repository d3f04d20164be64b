import { fromBinary, toBinary } from '@bufbuild/protobuf'
import { type ModelInferRequest, ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { PredictionLoggedSchema } from '@slipway/proto/slipway/events/v1/prediction'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FieldReader, MalformedMessage, readInteger } from './wire-reader.ts'
import { FieldWriter } from './wire-writer.ts'

describe('FieldWriter', () => {
  test('what it writes is what a protobuf decoder reads', () => {
    const writer = new FieldWriter()
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme', maxLength: 300 }),
        fc.array(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
        fc.array(fc.double()),
        (text, integers, doubles) => {
          writer.text(1, text)
          const packed = writer.open(13)
          for (const value of integers) writer.packedInteger(value)
          writer.close(packed)
          const values = writer.open(12)
          for (const value of doubles) writer.rawDouble(value)
          writer.close(values)
          writer.integer(7, integers.length)
          const decoded = fromBinary(PredictionLoggedSchema, writer.take())
          expect(decoded.predictionId).toBe(Buffer.from(text).toString())
          expect(decoded.int64s).toEqual(integers)
          expect(decoded.doubles).toEqual(doubles)
          expect(decoded.bucket).toBe(integers.length)
        },
      ),
    )
  })

  test('a nested message of any length gets the right length', () => {
    const writer = new FieldWriter()
    for (const length of [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152]) {
      const opened = writer.open(5)
      writer.text(1, 'x'.repeat(length))
      writer.close(opened)
      const decoded = fromBinary(ModelInferRequestSchema, writer.take())
      expect(decoded.inputs[0]?.name.length).toBe(length)
    }
  })

  test('takeWrappedAfter puts head and tail into one field', () => {
    const writer = new FieldWriter()
    for (const length of [0, 100, 200, 70_000]) {
      writer.text(2, 'tail')
      const reader = new FieldReader(
        writer.takeWrappedAfter(5, Buffer.from(toBinary(ModelInferRequestSchema, request('y'.repeat(length))))),
      )
      expect(reader.next()).toBe(true)
      const inner = fromBinary(ModelInferRequestSchema, reader.bytes())
      expect(inner.modelName.length).toBe(length)
      expect(inner.modelVersion).toBe('tail')
    }
  })
})

describe('FieldReader', () => {
  test('bytes that are no message throw MalformedMessage and nothing else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const reader = new FieldReader(Buffer.from(bytes))
        try {
          while (reader.next()) if (reader.wireType === 2) reader.text()
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedMessage)
        }
      }),
    )
  })

  test('a signed 64-bit number is read exactly', () => {
    const writer = new FieldWriter()
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (value) => {
        writer.packedInteger(value)
        const bytes = writer.take()
        expect(BigInt(readInteger(bytes, 0, bytes.length))).toBe(value)
      }),
    )
  })
})

function request(modelName: string): ModelInferRequest {
  return {
    $typeName: 'inference.ModelInferRequest',
    modelName,
    modelVersion: '',
    id: '',
    parameters: {},
    inputs: [],
    outputs: [],
    rawInputContents: [],
  }
}
