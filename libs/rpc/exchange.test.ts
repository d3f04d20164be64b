import { once } from 'node:events'
import { deflateSync, gzipSync } from 'node:zlib'
import { EchoService } from '@slipway/proto/slipway/testing/v1/echo'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { Code } from './code.ts'
import { Failure } from './failure.ts'
import { frame } from './framing.ts'
import { http2Call, http2Session, messagesIn } from './http2-call.fixture.ts'
import { methodPath } from './implementation.ts'
import { implementRawStream, implementRawUnary, type RawStream, type RawUnaryCall } from './raw.ts'
import { createServer, type ServerOptions } from './server.ts'
import { decodeStatus } from './status.ts'

// The promises of Exchange, held against both transports by a caller that speaks HTTP/2 and nothing else.

const UNARY = methodPath(EchoService.method.echo)
const STREAM = methodPath(EchoService.method.chat)
const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

const compressed = (bytes: Buffer): Buffer => {
  const framed = frame(bytes)
  framed[0] = 1
  return framed
}

describe.each(['lean', 'grpc-js'] as const)('an exchange on %s', (transport) => {
  async function serve(
    handlers: {
      unary?: (request: Buffer, call: RawUnaryCall) => void
      stream?: (stream: RawStream) => void
    },
    options: Partial<ServerOptions> = {},
  ) {
    const { unary = (request, call) => call.answer(request), stream = () => {} } = handlers
    const server = createServer({
      implementations: [
        implementRawUnary(EchoService.method.echo, unary),
        implementRawStream(EchoService.method.chat, stream),
      ],
      listen: { host: '127.0.0.1', port: 0 },
      transport,
      ...options,
    })
    const { address } = await server.start()
    closing.push(() => server.drain({ graceMs: 0 }))
    const session = http2Session(address)
    closing.push(() => session.destroy())
    return session
  }

  it('answers a message with a message and OK', async () => {
    const session = await serve({})
    const { stream, answer } = http2Call(session, UNARY)
    stream.end(frame(Buffer.from('hello')))
    const { httpStatus, status, chunks, metadata } = await answer
    expect({ httpStatus, status, messages: messagesIn(chunks) }).toEqual({
      httpStatus: 200,
      status: '0',
      messages: ['hello'],
    })
    expect(metadata['content-type']).toMatch(/^application\/grpc/)
  })

  it('answers the empty message', async () => {
    const session = await serve({})
    const { stream, answer } = http2Call(session, UNARY)
    stream.end(frame(Buffer.alloc(0)))
    expect(await answer).toMatchObject({ status: '0', chunks: [Buffer.alloc(5)] })
  })

  it('says when to try again, in the trailer and in the details, and nothing when the failure does not', async () => {
    const full = new Failure(Code.RESOURCE_EXHAUSTED, 'QUEUE_FULL', 'full', { retryAfterMs: 12.3 })
    const wrong = new Failure(Code.INVALID_ARGUMENT, 'WRONG', 'wrong')
    const session = await serve({ unary: (request, call) => call.fail(request.length > 0 ? full : wrong) })
    const ask = async (text: string) => {
      const { stream, answer } = http2Call(session, UNARY)
      stream.end(frame(Buffer.from(text)))
      const { metadata } = await answer
      const details = Buffer.from(metadata['grpc-status-details-bin'] ?? '', 'base64')
      const { retryAfterMs } = decodeStatus({ code: Code.INTERNAL, message: '', details })
      return { status: metadata['grpc-status'], pushback: metadata['grpc-retry-pushback-ms'], retryAfterMs }
    }
    expect(await ask('full')).toEqual({ status: '8', pushback: '13', retryAfterMs: 12.3 })
    expect(await ask('')).toEqual({ status: '3', pushback: undefined, retryAfterMs: undefined })
  })

  it('hears the same message however it is cut into DATA frames', async () => {
    const session = await serve({})
    const { stream, answer } = http2Call(session, UNARY)
    for (const byte of frame(Buffer.from('in pieces'))) {
      stream.write(Buffer.of(byte))
      await new Promise((resolve) => setImmediate(resolve))
    }
    stream.end()
    expect(messagesIn((await answer).chunks)).toEqual(['in pieces'])
  })

  it('hears every message of one DATA frame, in order', async () => {
    const session = await serve({
      stream(stream) {
        stream.onMessage((message) => stream.write(message))
        stream.onEnd(() => stream.end())
      },
    })
    const { stream, answer } = http2Call(session, STREAM)
    const texts = Array.from({ length: 100 }, (_, index) => `message ${index}`)
    const bytes = Buffer.concat(texts.map((text) => frame(Buffer.from(text))))
    stream.write(bytes.subarray(0, 777))
    stream.end(bytes.subarray(777))
    const { status, chunks } = await answer
    expect(status).toBe('0')
    expect(messagesIn(chunks)).toEqual(texts)
  })

  it('carries messages of megabytes both ways', async () => {
    const session = await serve({})
    const { stream, answer } = http2Call(session, UNARY)
    const large = Buffer.alloc(5_000_000, 'slipway ')
    stream.end(frame(large))
    const { status, chunks } = await answer
    expect(status).toBe('0')
    expect(Buffer.concat(chunks).subarray(5).equals(large)).toBe(true)
  })

  it('shows the headers of the call', async () => {
    const session = await serve({
      unary: (_request, call) =>
        call.answer(Buffer.from([call.header('who'), call.header('key-bin'), call.header('no')].join())),
    })
    const { stream, answer } = http2Call(session, UNARY, { who: 'ada', 'key-bin': 'AAEC' })
    stream.end(frame(Buffer.alloc(0)))
    expect(messagesIn((await answer).chunks)).toEqual(['ada,AAEC,'])
  })

  it('refuses a message above the limit with RESOURCE_EXHAUSTED, unread', async () => {
    let called = false
    const unary = () => {
      called = true
    }
    const session = await serve({ unary }, { limits: { maxRequestBytes: 1000 } })
    const { stream, answer } = http2Call(session, UNARY)
    stream.end(frame(Buffer.alloc(1001)))
    expect(await answer).toMatchObject({ status: String(Code.RESOURCE_EXHAUSTED) })
    expect(called).toBe(false)
  })

  it('refuses to send a message above the limit', async () => {
    const session = await serve(
      { unary: (_request, call) => call.answer(Buffer.alloc(1001)) },
      { limits: { maxResponseBytes: 1000 } },
    )
    const { stream, answer } = http2Call(session, UNARY)
    stream.end(frame(Buffer.alloc(0)))
    expect(await answer).toMatchObject({ status: String(Code.RESOURCE_EXHAUSTED), chunks: [] })
  })

  it('answers a call without a message, and one with two, with INVALID_ARGUMENT', async () => {
    const session = await serve({})
    const none = http2Call(session, UNARY)
    none.stream.end()
    expect(await none.answer).toMatchObject({ status: String(Code.INVALID_ARGUMENT) })
    const two = http2Call(session, UNARY)
    two.stream.end(Buffer.concat([frame(Buffer.from('a')), frame(Buffer.from('b'))]))
    expect(await two.answer).toMatchObject({ status: String(Code.INVALID_ARGUMENT), chunks: [] })
    const half = http2Call(session, UNARY)
    half.stream.end(frame(Buffer.from('cut off')).subarray(0, 8))
    expect(await half.answer).toMatchObject({ status: String(Code.INVALID_ARGUMENT), chunks: [] })
  })

  it.each([
    ['gzip', gzipSync],
    ['deflate', deflateSync],
  ])('reads messages compressed with %s, in order with those that are not', async (encoding, compress) => {
    const session = await serve({
      stream(stream) {
        stream.onMessage((message) => stream.write(message))
        stream.onEnd(() => stream.end())
      },
    })
    const { stream, answer } = http2Call(session, STREAM, { 'grpc-encoding': encoding })
    const texts = ['a'.repeat(100_000), 'b', 'c'.repeat(10_000), 'd']
    stream.end(
      Buffer.concat(
        texts.map((text) => (text.length > 1 ? compressed(compress(Buffer.from(text))) : frame(Buffer.from(text)))),
      ),
    )
    expect(messagesIn((await answer).chunks)).toEqual(texts)
  })

  it('answers an unknown compression with UNIMPLEMENTED, and one that inflates too far with RESOURCE_EXHAUSTED', async () => {
    const session = await serve({}, { limits: { maxRequestBytes: 10_000 } })
    const unknown = http2Call(session, UNARY, { 'grpc-encoding': 'snappy' })
    unknown.stream.end(compressed(Buffer.from('?')))
    expect(await unknown.answer).toMatchObject({ status: String(Code.UNIMPLEMENTED) })
    const bomb = http2Call(session, UNARY, { 'grpc-encoding': 'gzip' })
    bomb.stream.end(compressed(gzipSync(Buffer.alloc(1_000_000))))
    expect(await bomb.answer).toMatchObject({ status: String(Code.RESOURCE_EXHAUSTED) })
    const broken = http2Call(session, UNARY, { 'grpc-encoding': 'gzip' })
    broken.stream.end(compressed(Buffer.from('not gzip')))
    const { status, chunks } = await broken.answer
    expect([String(Code.INVALID_ARGUMENT), String(Code.INTERNAL)]).toContain(status)
    expect(chunks).toEqual([])
  })

  it('ends a call with DEADLINE_EXCEEDED when its time is up, and says so to the handler', async () => {
    const cancelled = Promise.withResolvers<boolean>()
    const session = await serve({
      unary: (_request, call) => call.onCancel(() => cancelled.resolve(call.cancelled)),
    })
    const { stream, answer } = http2Call(session, UNARY, { 'grpc-timeout': '50m' })
    stream.end(frame(Buffer.from('slow')))
    expect(await answer).toMatchObject({ status: String(Code.DEADLINE_EXCEEDED) })
    expect(await cancelled.promise).toBe(true)
  })

  it('ends a unary call whose body never comes when the server has waited long enough', async () => {
    const session = await serve({}, { limits: { unaryTimeoutMs: 50 } })
    const { stream, answer } = http2Call(session, UNARY)
    stream.write(frame(Buffer.from('never ends')))
    stream.on('end', () => stream.end())
    expect(await answer).toMatchObject({ status: String(Code.DEADLINE_EXCEEDED) })
  })

  it('knows the deadline, also one that is further away than a timer can reach', async () => {
    const session = await serve({
      unary: (_request, call) => call.answer(Buffer.from(String(Math.round((call.deadlineMs - Date.now()) / 1000)))),
    })
    const near = http2Call(session, UNARY, { 'grpc-timeout': '7S' })
    near.stream.end(frame(Buffer.alloc(0)))
    expect(messagesIn((await near.answer).chunks)).toEqual(['7'])
    const far = http2Call(session, UNARY, { 'grpc-timeout': '99999999H' })
    far.stream.end(frame(Buffer.alloc(0)))
    const { status, chunks } = await far.answer
    expect(status).toBe('0')
    expect(Number(messagesIn(chunks)[0])).toBeGreaterThan(1_000_000)
  })

  it('does not call the handler for a malformed timeout', async () => {
    let called = false
    const session = await serve({
      unary: () => {
        called = true
      },
    })
    const { stream, answer } = http2Call(session, UNARY, { 'grpc-timeout': 'soon' })
    stream.end(frame(Buffer.from('x')))
    expect(await answer).toMatchObject({ status: String(Code.INVALID_ARGUMENT) })
    expect(called).toBe(false)
  })

  it('tells the handler once that the caller reset the call', async () => {
    const heard = Promise.withResolvers<void>()
    const over = Promise.withResolvers<string>()
    let times = 0
    const session = await serve({
      unary(_request, call) {
        heard.resolve()
        call.onCancel(() => {
          times++
          call.answer(Buffer.from('too late'))
          call.fail(new Error('too late'))
          over.resolve(`${call.cancelled} ${times}`)
        })
      },
    })
    const { stream } = http2Call(session, UNARY)
    stream.end(frame(Buffer.from('x')))
    await heard.promise
    stream.close(8)
    expect(await over.promise).toBe('true 1')
  })

  it('tells the handler that the connection is lost', async () => {
    const heard = Promise.withResolvers<void>()
    const over = Promise.withResolvers<void>()
    const session = await serve({
      stream(stream) {
        stream.onMessage(() => heard.resolve())
        stream.onCancel(() => over.resolve())
      },
    })
    http2Call(session, STREAM).stream.write(frame(Buffer.from('x')))
    await heard.promise
    session.destroy()
    await over.promise
  })

  it('does not tell the handler of a cancellation after it answered', async () => {
    let cancelled = 0
    const session = await serve({
      unary(request, call) {
        call.onCancel(() => cancelled++)
        call.answer(request)
        call.answer(request)
        call.fail(new Error('too late'))
      },
    })
    const { stream, answer } = http2Call(session, UNARY)
    stream.end(frame(Buffer.from('once')))
    const { status, chunks } = await answer
    expect(status).toBe('0')
    expect(messagesIn(chunks)).toEqual(['once'])
    session.destroy()
    await once(session, 'close')
    expect(cancelled).toBe(0)
  })

  it('brings code, message and details, also after answers were written', async () => {
    const failure = new Failure(Code.ABORTED, 'ETAG_STALE', 'grüße: 100 %\n\ud800', { metadata: { key: 'value' } })
    const session = await serve({
      unary: (_request, call) => call.fail(failure),
      stream(stream) {
        stream.onMessage((message) => {
          stream.write(message)
          stream.fail(failure)
        })
      },
    })
    for (const path of [UNARY, STREAM]) {
      const { stream, answer } = http2Call(session, path)
      stream.end(frame(Buffer.from('first')))
      const { status, message, metadata, chunks } = await answer
      expect(messagesIn(chunks)).toEqual(path === UNARY ? [] : ['first'])
      expect({ status, message }).toEqual({ status: String(Code.ABORTED), message: 'grüße: 100 %\n\ufffd' })
      const details = Buffer.from(metadata['grpc-status-details-bin'] ?? '', 'base64')
      expect(decodeStatus({ code: Number(status), message, details })).toMatchObject({
        reason: 'ETAG_STALE',
        metadata: { key: 'value' },
      })
    }
  })

  it('answers an opaque INTERNAL when a handler throws, and hears the cause', async () => {
    const causes: unknown[] = []
    const broken = () => {
      throw new Error('secret')
    }
    const session = await serve(
      { unary: broken, stream: (stream) => stream.onMessage(broken) },
      { onError: ({ cause }) => causes.push(cause) },
    )
    for (const path of [UNARY, STREAM]) {
      const { stream, answer } = http2Call(session, path)
      stream.end(frame(Buffer.from('x')))
      expect(await answer).toMatchObject({ status: String(Code.INTERNAL), message: 'internal error' })
    }
    expect(causes).toEqual([new Error('secret'), new Error('secret')])
  })

  it('goes on answering after the caller half-closed', async () => {
    const session = await serve({
      stream(stream) {
        stream.onEnd(() => {
          stream.write(Buffer.from('late'))
          setImmediate(() => {
            stream.write(Buffer.from('later'))
            stream.end()
          })
        })
      },
    })
    const { stream, answer } = http2Call(session, STREAM)
    stream.end()
    const { status, chunks } = await answer
    expect({ status, messages: messagesIn(chunks) }).toEqual({ status: '0', messages: ['late', 'later'] })
  })

  it('ends a call that was answered before the caller had sent everything', async () => {
    const session = await serve({
      stream(stream) {
        stream.onMessage(() => stream.fail(new Failure(Code.NOT_FOUND, 'GONE', 'enough')))
      },
    })
    const { stream, answer } = http2Call(session, STREAM)
    stream.write(frame(Buffer.from('x')))
    stream.on('end', () => stream.end())
    expect(await answer).toMatchObject({ status: String(Code.NOT_FOUND) })
  })

  it('says when the caller does not read, and when it reads again', async () => {
    const drained = Promise.withResolvers<void>()
    const filled = Promise.withResolvers<void>()
    const session = await serve(
      {
        stream(stream) {
          stream.onMessage(() => {
            const fill = (): void => {
              for (let i = 0; i < 8; i++) stream.write(Buffer.alloc(16_384))
              if (stream.writableNeedsDrain) filled.resolve()
              else setImmediate(fill)
            }
            fill()
          })
          stream.onDrain(() => drained.resolve())
          stream.onEnd(() => stream.end())
        },
      },
      { limits: { streamBufferBytes: 100_000 } },
    )
    const { stream, answer } = http2Call(session, STREAM)
    stream.pause()
    stream.write(frame(Buffer.from('fill')))
    await filled.promise
    stream.resume()
    await drained.promise
    stream.end()
    expect(await answer).toMatchObject({ status: '0' })
  })

  it('holds a caller back whose messages are not taken', async () => {
    let taken = 0
    const held = Promise.withResolvers<RawStream>()
    const session = await serve(
      {
        stream(stream) {
          stream.onMessage(() => {
            taken++
            if (taken === 1) {
              stream.pause()
              held.resolve(stream)
            }
          })
          stream.onEnd(() => stream.end())
        },
      },
      { limits: { streamWindowBytes: 65_535 } },
    )
    const { stream, answer } = http2Call(session, STREAM)
    const messages = 1000
    stream.write(frame(Buffer.alloc(1000)))
    const serverStream = await held.promise
    for (let i = 1; i < messages; i++) stream.write(frame(Buffer.alloc(1000)))
    stream.end()
    await new Promise<void>((resolve) => session.ping(() => resolve()))
    expect(taken).toBeLessThan(messages / 2)
    serverStream.resume()
    expect(await answer).toMatchObject({ status: '0' })
    expect(taken).toBe(messages)
  })

  it('goes on answering whatever bytes callers send, and ends each of their calls', async () => {
    const session = await serve(
      {
        stream(stream) {
          stream.onMessage((message) => stream.write(message))
          stream.onEnd(() => stream.end())
        },
      },
      { limits: { maxRequestBytes: 1000 } },
    )
    const good = fc.uint8Array({ maxLength: 50 }).map((bytes) => frame(bytes))
    const flagged = good.map((bytes) => compressed(bytes.subarray(5)))
    const bad = fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes))
    const body = fc.array(fc.oneof(good, good, flagged, bad), { maxLength: 6 })
    const headers = fc.record(
      {
        'grpc-encoding': fc.constantFrom('gzip', 'deflate', 'identity', 'none'),
        'grpc-timeout': fc.constantFrom('1S', '0m', '1m', 'x', '99999999H'),
      },
      { requiredKeys: [] },
    )
    const reset = fc.constantFrom(undefined, undefined, 2, 8)
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(UNARY, STREAM), headers, body, reset, async (path, sent, chunks, code) => {
        const call = http2Call(session, path, sent)
        for (const chunk of chunks) call.stream.write(chunk)
        if (code === undefined) call.stream.end()
        else call.stream.close(code)
        await call.answer
      }),
      { numRuns: 300 },
    )
    const { stream, answer } = http2Call(session, UNARY)
    stream.end(frame(Buffer.from('still here')))
    expect(messagesIn((await answer).chunks)).toEqual(['still here'])
  })

  it('answers what is not gRPC with 415, and a method that it does not have with UNIMPLEMENTED', async () => {
    const session = await serve({})
    const json = http2Call(session, UNARY, { 'content-type': 'application/json' })
    json.stream.end('{}')
    expect(await json.answer).toMatchObject({ httpStatus: 415 })
    const missing = http2Call(session, '/slipway.testing.v1.EchoService/Missing')
    missing.stream.end(frame(Buffer.alloc(0)))
    expect(await missing.answer).toMatchObject({ status: String(Code.UNIMPLEMENTED) })
  })
})
