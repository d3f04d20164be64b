import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import {
  ModelInferRequestSchema,
  ModelInferResponseSchema,
  ModelStreamInferResponseSchema,
} from '@slipway/proto/inference/grpc_service'
import { Code, Failure } from '@slipway/rpc'
import { describe, expect, test } from 'vitest'
import { InferencePool, type InferenceStream } from './inference-pool.ts'
import { failureOfStream } from './oip-message.ts'

/** A stream whose other end the test plays. */
class ScriptedStream implements InferenceStream {
  readonly requests: string[] = []
  isEnded = false
  #onMessage: (message: Buffer) => void = () => {}
  #onClose: (failure: Failure | undefined) => void = () => {}
  #onLeaving: () => void = () => {}

  write(message: Uint8Array): void {
    this.requests.push(fromBinary(ModelInferRequestSchema, message).id)
  }
  onMessage(listener: (message: Buffer) => void): void {
    this.#onMessage = listener
  }
  onClose(listener: (failure: Failure | undefined) => void): void {
    this.#onClose = listener
  }
  onLeaving(listener: () => void): void {
    this.#onLeaving = listener
  }
  end(): void {
    this.isEnded = true
  }
  answer(id: string): void {
    const inferResponse = create(ModelInferResponseSchema, { id, modelName: `answer to ${id}` })
    const message = create(ModelStreamInferResponseSchema, { inferResponse })
    this.#onMessage(Buffer.from(toBinary(ModelStreamInferResponseSchema, message)))
  }
  break(failure = new Failure(Code.UNAVAILABLE, 'LOST', 'the connection was lost')): void {
    this.#onClose(failure)
  }
  leave(): void {
    this.#onLeaving()
  }
}

function scripted(limits: { streams?: number; maxInFlight?: number } = {}) {
  const streams: ScriptedStream[] = []
  const unary: string[] = []
  const pool = new InferencePool({
    openStream: () => {
      const stream = new ScriptedStream()
      streams.push(stream)
      return stream
    },
    callUnary: async (request) => {
      const { id } = fromBinary(ModelInferRequestSchema, request)
      unary.push(id)
      return Buffer.from(
        toBinary(ModelInferResponseSchema, create(ModelInferResponseSchema, { id, modelName: 'unary' })),
      )
    },
    failureOf: failureOfStream,
    onTrouble: () => {},
    streams: limits.streams ?? 2,
    maxInFlight: limits.maxInFlight ?? 100,
    maxInFlightBytes: 1_000_000,
  })
  const send = (deadlineMs = Number.POSITIVE_INFINITY): { id: string; answer: Promise<string> } => {
    const id = pool.nextId()
    const message = Buffer.from(toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, { id })))
    const answer = new Promise<string>((resolve, reject) => {
      pool.send(id, message, deadlineMs, (failure, response) => {
        if (failure === undefined) resolve(fromBinary(ModelInferResponseSchema, response).modelName)
        else reject(failure)
      })
    })
    return { id, answer }
  }
  return { pool, streams, unary, send }
}

describe('InferencePool', () => {
  test('answers find their requests in any order, over all streams', async () => {
    const { streams, send } = scripted()
    const sent = Array.from({ length: 6 }, () => send())
    expect(streams.map((stream) => stream.requests.length)).toEqual([3, 3])
    for (const stream of streams) for (const id of stream.requests.toReversed()) stream.answer(id)
    expect(await Promise.all(sent.map(({ answer }) => answer))).toEqual(sent.map(({ id }) => `answer to ${id}`))
  })

  test('requests of a broken stream are sent once more, on another one', async () => {
    const { streams, send, pool } = scripted()
    const sent = [send(), send()]
    const [first, second] = streams
    second?.answer(sent[1]?.id ?? '')
    first?.break()
    expect(second?.requests).toContain(sent[0]?.id)
    second?.answer(sent[0]?.id ?? '')
    expect(await Promise.all(sent.map(({ answer }) => answer))).toHaveLength(2)
    expect(pool.inFlight).toBe(0)
  })

  test('a request that loses two streams is UNAVAILABLE, and so is the next one until the pause is over', async () => {
    const { streams, send, pool } = scripted({ streams: 1 })
    const { answer } = send()
    streams[0]?.answer('unknown')
    streams[0]?.break()
    streams[1]?.break()
    await expect(answer).rejects.toMatchObject({ code: Code.UNAVAILABLE, reason: 'INFERENCE_UNAVAILABLE' })
    await expect(send().answer).rejects.toMatchObject({ code: Code.UNAVAILABLE })
    expect(streams).toHaveLength(2)
    expect(pool.inFlight).toBe(0)
  })

  test('a stream whose server leaves answers what it has, and new requests go elsewhere', async () => {
    const { streams, send } = scripted({ streams: 1 })
    const before = send()
    streams[0]?.leave()
    expect(streams[0]?.isEnded).toBe(true)
    const after = send()
    expect(streams[1]?.requests).toEqual([after.id])
    streams[0]?.answer(before.id)
    streams[1]?.answer(after.id)
    expect(await Promise.all([before.answer, after.answer])).toHaveLength(2)
  })

  test('a server without streams is called by unary calls', async () => {
    const { streams, send, unary } = scripted({ streams: 1 })
    const first = send()
    streams[0]?.break(new Failure(Code.UNIMPLEMENTED, 'UNIMPLEMENTED', 'no such method'))
    expect(await first.answer).toBe('unary')
    expect(await send().answer).toBe('unary')
    expect(unary).toHaveLength(2)
  })

  test('a request whose deadline passes is DEADLINE_EXCEEDED, and a late answer goes nowhere', async () => {
    const { streams, send, pool } = scripted({ streams: 1 })
    const { id, answer } = send(Date.now() + 10)
    await expect(answer).rejects.toMatchObject({ code: Code.DEADLINE_EXCEEDED })
    streams[0]?.answer(id)
    expect(pool.inFlight).toBe(0)
  })

  test('more requests than the limit are RESOURCE_EXHAUSTED with a time to come back', async () => {
    const { streams, send } = scripted({ maxInFlight: 2 })
    const sent = [send(), send()]
    await expect(send().answer).rejects.toMatchObject({ code: Code.RESOURCE_EXHAUSTED, reason: 'TOO_MANY_IN_FLIGHT' })
    for (const stream of streams) for (const id of stream.requests) stream.answer(id)
    await Promise.all(sent.map(({ answer }) => answer))
    expect(send().id).not.toBe('')
  })
})
