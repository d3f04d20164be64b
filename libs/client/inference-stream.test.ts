import { GRPCInferenceService, type ModelInferRequest } from '@slipway/proto/inference/grpc_service'
import { Code, createServer, implement } from '@slipway/rpc'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type InferenceStream, openInferenceStream } from './inference-stream.ts'

/** Answers in pairs, the later one first; fails the model `bad`; leaves the model `silent` without an answer. */
async function* answerInPairs(requests: AsyncIterable<ModelInferRequest>) {
  const held: ModelInferRequest[] = []
  for await (const request of requests) {
    if (request.modelName === 'silent') continue
    held.push(request)
    if (request.modelName !== 'bad' && held.length < 2) continue
    for (const each of held.splice(0).reverse()) yield answerTo(each)
  }
}

function answerTo(request: ModelInferRequest) {
  const { id, modelName, parameters } = request
  if (modelName !== 'bad') return { inferResponse: { id, modelName, parameters } }
  const failure = {
    error_code: { parameterChoice: { case: 'int64Param', value: BigInt(Code.NOT_FOUND) } },
    error_reason: { parameterChoice: { case: 'stringParam', value: 'UNKNOWN_MODEL' } },
    retry_after_ms: { parameterChoice: { case: 'int64Param', value: 200n } },
  } as const
  return { errorMessage: 'no such model', inferResponse: { id, parameters: failure } }
}

let server: ReturnType<typeof createServer>
let stream: InferenceStream
beforeEach(async () => {
  const implementations = [implement(GRPCInferenceService, { modelStreamInfer: answerInPairs })]
  server = createServer({ implementations, listen: { host: '127.0.0.1', port: 0 } })
  stream = openInferenceStream({ address: (await server.start()).address, maxInFlight: 3 })
})
afterEach(async () => {
  stream.close()
  await server.drain({ graceMs: 50 })
})

test('answers find their requests whatever their order, and ids come back as they were', async () => {
  const answers = await Promise.all(
    ['a', 'b'].map((id) => stream.infer({ id: 'same', modelName: id }, { timeoutMs: 5000 })),
  )
  expect(answers.map(({ modelName, id }) => [modelName, id])).toEqual([
    ['a', 'same'],
    ['b', 'same'],
  ])
  expect(answers[0]?.parameters.timeout?.parameterChoice.value).toBe(5_000_000n)
  expect(stream.inFlight).toBe(0)
})

test('a request that fails fails alone, with code, reason and delay, and the stream goes on', async () => {
  await expect(stream.infer({ modelName: 'bad' })).rejects.toMatchObject({
    code: Code.NOT_FOUND,
    reason: 'UNKNOWN_MODEL',
    message: 'no such model',
    retryAfterMs: 200,
  })
  await expect(Promise.all([stream.infer({ modelName: 'a' }), stream.infer({ modelName: 'b' })])).resolves.toHaveLength(
    2,
  )
})

test('a request without an answer ends by its deadline or its signal', async () => {
  await expect(stream.infer({ modelName: 'silent' }, { timeoutMs: 20 })).rejects.toMatchObject({
    code: Code.DEADLINE_EXCEEDED,
  })
  const stop = new AbortController()
  const waiting = stream.infer({ modelName: 'silent' }, { signal: stop.signal })
  stop.abort()
  await expect(waiting).rejects.toMatchObject({ code: Code.CANCELLED })
  await expect(stream.infer({}, { signal: stop.signal })).rejects.toMatchObject({ code: Code.CANCELLED })
  expect(stream.inFlight).toBe(0)
})

test('one request more than may wait is RESOURCE_EXHAUSTED, and the others are not touched', async () => {
  const waiting = ['silent', 'silent', 'silent'].map((modelName) => stream.infer({ modelName }, { timeoutMs: 200 }))
  await expect(stream.infer({ modelName: 'a' })).rejects.toMatchObject({ code: Code.RESOURCE_EXHAUSTED })
  const settled = await Promise.allSettled(waiting)
  expect(settled.every(({ status }) => status === 'rejected')).toBe(true)
})

test('a lost server makes what waits UNAVAILABLE, and what comes while it is away', async () => {
  const waiting = stream.infer({ modelName: 'silent' })
  const lost = expect(waiting).rejects.toMatchObject({ code: Code.UNAVAILABLE })
  await new Promise((resolve) => setImmediate(resolve))
  await server.drain({ graceMs: 0 })
  await lost
  const failing = stream.infer({ modelName: 'a' })
  await expect(failing).rejects.toMatchObject({ code: Code.UNAVAILABLE })
})

test('closing settles what waits', async () => {
  const waiting = stream.infer({ modelName: 'silent' })
  stream.close()
  await expect(waiting).rejects.toMatchObject({ code: Code.UNAVAILABLE, reason: 'STREAM_LOST' })
})
