import fc from 'fast-check'
import { describe, expect, it, test } from 'vitest'
import { Code, codeName, codeOf } from './code.ts'
import { Failure } from './failure.ts'
import {
  decodeStatus,
  encodeStatus,
  MAX_MESSAGE_CHARACTERS,
  MAX_VIOLATIONS,
  percentDecode,
  percentEncode,
  statusMessage,
} from './status.ts'

const text = fc.string({ unit: 'grapheme', maxLength: 60 })

describe('a failure on the wire', () => {
  it('arrives as it left', () => {
    const violations = fc.array(fc.record({ field: text, description: text }), { maxLength: 5 })
    const parts = [
      fc.constantFrom(...Object.values(Code)),
      text,
      fc.dictionary(
        fc.string({ minLength: 1 }).filter((key) => key !== '__proto__'),
        text,
      ),
      violations,
      fc.option(fc.integer({ min: 0, max: 1e9 }), { nil: undefined }),
    ] as const
    fc.assert(
      fc.property(...parts, (code, message, metadata, wrong, retryAfterMs) => {
        const retry = retryAfterMs === undefined ? {} : { retryAfterMs }
        const sent = new Failure(code, 'REASON', message, { metadata, violations: wrong, ...retry })
        const got = decodeStatus({ code, message: statusMessage(sent), details: encodeStatus(sent) })
        const { reason, violations: found } = got
        expect({ code: got.code, reason, message: got.message, found, after: got.retryAfterMs }).toEqual({
          code,
          reason: 'REASON',
          message,
          found: wrong,
          after: retryAfterMs,
        })
        expect({ ...got.metadata }).toEqual({ ...metadata })
      }),
    )
  })

  it('is bounded, whatever a handler puts into it', () => {
    const violations = Array.from({ length: 1000 }, () => ({ field: 'f'.repeat(1000), description: 'd'.repeat(1000) }))
    const metadata = Object.fromEntries(violations.map(({ description }, index) => [`key ${index}`, description]))
    const large = new Failure(Code.INVALID_ARGUMENT, 'LARGE', 'm'.repeat(100_000), { violations, metadata })
    const got = decodeStatus({ code: 3, message: statusMessage(large), details: encodeStatus(large) })
    expect(got.message).toHaveLength(MAX_MESSAGE_CHARACTERS)
    expect(got.violations).toHaveLength(MAX_VIOLATIONS)
    expect(encodeStatus(large).length).toBeLessThan(30_000)
  })

  it('takes its reason from the code when nobody gave one, and survives details that are none', () => {
    const details = Buffer.from('not a status')
    expect(decodeStatus({ code: 14, message: 'gone', details })).toMatchObject({
      code: Code.UNAVAILABLE,
      reason: 'UNAVAILABLE',
      message: 'gone',
      violations: [],
      retryAfterMs: undefined,
    })
  })

  it('never shows the cause', () => {
    const failure = Failure.from(new Error('secret'))
    expect(Buffer.from(encodeStatus(failure)).toString()).not.toContain('secret')
    expect(failure).toMatchObject({ code: Code.INTERNAL, message: 'internal error', cause: new Error('secret') })
    expect(Failure.from(failure)).toBe(failure)
  })
})

test('failures that say the same share their bytes, those that do not never do', () => {
  const full = (reason: string, message: string, retryAfterMs?: number) =>
    encodeStatus(
      new Failure(Code.RESOURCE_EXHAUSTED, reason, message, retryAfterMs === undefined ? {} : { retryAfterMs }),
    )
  expect(full('A', 'b', 5)).toBe(full('A', 'b', 5))
  const others = [full('A', 'b'), full('A', 'b', 6), full('A b', ''), full('A', ' b'), full('', 'Ab', 5)]
  expect(new Set([full('A', 'b', 5), ...others].map((bytes) => Buffer.from(bytes).toString('hex'))).size).toBe(6)
  for (let index = 0; index < 2000; index++) full('A', `${index}`)
  const { reason, message } = decodeStatus({ code: 8, message: '', details: full('A', '1999') })
  expect({ reason, message }).toEqual({ reason: 'A', message: '1999' })
})

describe('grpc-message', () => {
  it('is printable ASCII and says the same after decoding', () => {
    fc.assert(
      fc.property(text, (message) => {
        const encoded = percentEncode(message)
        expect(encoded).toMatch(/^[\x20-\x7e]*$/)
        expect(percentDecode(encoded)).toBe(message)
      }),
    )
  })

  it('survives text that is no text', () => {
    expect(percentDecode(percentEncode('a\ud800b'))).toBe('a\ufffdb')
    expect(percentDecode('100 % sure')).toBe('100 % sure')
  })
})

it('knows the published codes and names, and takes what it does not know for UNKNOWN', () => {
  expect(codeName(Code.FAILED_PRECONDITION)).toBe('FAILED_PRECONDITION')
  expect(Object.values(Code).map(codeOf)).toEqual(Object.values(Code))
  expect(codeOf(99)).toBe(Code.UNKNOWN)
})
