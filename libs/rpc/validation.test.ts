import { create, toBinary } from '@bufbuild/protobuf'
import { EchoRequestSchema } from '@slipway/proto/slipway/testing/v1/echo'
import { describe, expect, it } from 'vitest'
import { Code } from './code.ts'
import { readRequest } from './validation.ts'

describe('readRequest', () => {
  it('returns a message that keeps the rules', () => {
    const bytes = toBinary(EchoRequestSchema, create(EchoRequestSchema, { text: 'hello', limited: 10, name: 'ada' }))
    expect(readRequest(EchoRequestSchema, bytes)).toMatchObject({ text: 'hello', limited: 10, name: 'ada' })
  })

  it('names every field that breaks a rule, also in nested messages', () => {
    const wrong = create(EchoRequestSchema, { limited: 11, name: 'Ada', nested: {}, values: [1, 2, 3, 4, 5] })
    const read = () => readRequest(EchoRequestSchema, toBinary(EchoRequestSchema, wrong))
    expect(read).toThrow(
      expect.objectContaining({
        code: Code.INVALID_ARGUMENT,
        reason: 'INVALID_FIELD',
        violations: [
          expect.objectContaining({ field: 'limited' }),
          expect.objectContaining({ field: 'name' }),
          expect.objectContaining({ field: 'nested.label' }),
          expect.objectContaining({ field: 'values' }),
        ],
      }),
    )
  })

  it('answers bytes that are not the message with MALFORMED_MESSAGE', () => {
    expect(() => readRequest(EchoRequestSchema, Uint8Array.of(0x0a, 0x7f))).toThrow(
      expect.objectContaining({ code: Code.INVALID_ARGUMENT, reason: 'MALFORMED_MESSAGE' }),
    )
  })
})
