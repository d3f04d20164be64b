import { create, toBinary } from '@bufbuild/protobuf'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { Failure } from '@slipway/rpc'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { KnownHeads } from './known-heads.ts'

function encode(fields: { id?: string; raw?: Buffer; model?: string; timeout?: bigint }): Buffer {
  const { id = 'an id', raw = Buffer.alloc(16), model = 'm', timeout } = fields
  const message = create(ModelInferRequestSchema, {
    modelName: model,
    id,
    parameters: timeout === undefined ? {} : { timeout: { parameterChoice: { case: 'int64Param', value: timeout } } },
    inputs: [{ name: 'input', datatype: 'FP32', shape: [4n] }],
    outputs: [{ name: 'output' }],
    rawInputContents: [raw],
  })
  return Buffer.from(toBinary(ModelInferRequestSchema, message))
}

/** What is read of a request, or what it is refused for. */
function outcome(heads: KnownHeads, request: Buffer) {
  try {
    const { envelope, head } = heads.read(request)
    return { envelope: { ...envelope }, request: head.request, typedInput: head.typedInput }
  } catch (error) {
    return Failure.from(error).message
  }
}

describe('KnownHeads', () => {
  test('reads a request as if none had come before it, whatever differs from the one before', () => {
    const first = encode({ timeout: 5n })
    const change = fc.array(fc.tuple(fc.nat(first.length - 1), fc.nat(255)), { maxLength: 4 })
    fc.assert(
      fc.property(change, fc.nat(first.length), (changes, length) => {
        const changed = Buffer.from(first)
        for (const [position, value] of changes) changed[position] = value
        for (const next of [changed, changed.subarray(0, length)]) {
          const heads = new KnownHeads()
          heads.read(first)
          expect(outcome(heads, next)).toEqual(outcome(new KnownHeads(), next))
          expect(outcome(heads, first)).toEqual(outcome(new KnownHeads(), first))
        }
      }),
      { numRuns: 5000 },
    )
  })

  test('reads the same parts again for another id and other tensors, without keeping the request', () => {
    const heads = new KnownHeads()
    const first = encode({ id: 'one', raw: Buffer.alloc(16, 1) })
    const read = heads.read(first)
    first.fill(0)
    const second = heads.read(encode({ id: 'two', raw: Buffer.alloc(16, 2) }))
    expect(second.envelope).toBe(heads.read(encode({ id: 'six' })).envelope)
    expect(second.head).toBe(read.head)
    expect(heads.read(encode({ model: 'n' })).head).not.toBe(read.head)
  })

  test('of two kinds of one length that come in turn one stays known; one that comes alone becomes known', () => {
    const heads = new KnownHeads()
    const [one, two] = [encode({ model: 'm' }), encode({ model: 'n' })]
    const { envelope } = heads.read(one)
    for (let turn = 0; turn < 20; turn++) {
      heads.read(two)
      expect(heads.read(one).envelope).toBe(envelope)
    }
    for (let miss = 0; miss < 4; miss++) heads.read(two)
    expect(heads.read(two).envelope).toBe(heads.read(two).envelope)
  })

  test('an id that is no text is refused, also where the requests before it had one', () => {
    const heads = new KnownHeads()
    const request = encode({ id: 'abc' })
    heads.read(request)
    request[request.indexOf('abc') + 1] = 0xff
    expect(outcome(heads, request)).toBe('the id is not UTF-8')
  })

  test('a parameter is part of what has to be the same', () => {
    const heads = new KnownHeads()
    const { envelope } = heads.read(encode({ timeout: 5n }))
    expect(heads.read(encode({ timeout: 6n })).envelope).not.toBe(envelope)
  })
})
