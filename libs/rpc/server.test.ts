import { EchoService } from '@slipway/proto/slipway/testing/v1/echo'
import { describe, expect, it } from 'vitest'
import { Code } from './code.ts'
import type { CallContext } from './context.ts'
import { all, allHot, echoHandlers, serveEcho, texts } from './echo.fixture.ts'
import { Failure } from './failure.ts'
import { implement } from './implementation.ts'
import { implementRawUnary } from './raw.ts'
import { createServer } from './server.ts'

describe.each([
  ['grpc-js', {}],
  ['the lean path', allHot],
])('typed calls on %s', (_transport, hot) => {
  it('answer all four kinds', async () => {
    const { client } = await serveEcho(echoHandlers, hot)
    expect(await client.echo({ text: 'a' })).toMatchObject({ text: 'a' })
    expect(await all(client.count({ count: 3, text: 'b' }))).toMatchObject([
      { text: 'b', index: 0 },
      { text: 'b', index: 1 },
      { text: 'b', index: 2 },
    ])
    expect(await client.collect(texts('c', 'd'))).toMatchObject({ text: 'cd' })
    expect(await all(client.chat(texts('e', 'f')))).toMatchObject([
      { text: 'e', index: 0 },
      { text: 'f', index: 1 },
    ])
  })

  it('bring a failure to the caller with all its details', async () => {
    const failure = new Failure(Code.ABORTED, 'ETAG_STALE', 'someone was faster: 50 % ✓', {
      metadata: { model: 'models/flights' },
      violations: [{ field: 'etag', description: 'is stale' }],
      retryAfterMs: 1250,
    })
    const { client } = await serveEcho(
      {
        echo: () => Promise.reject(failure),
        // biome-ignore lint/correctness/useYield: it fails before it yields
        async *count() {
          throw failure
        },
      },
      hot,
    )
    for (const call of [client.echo({}), all(client.count({}))]) {
      const caught = await call.catch((error: unknown) => error)
      expect(caught).toBeInstanceOf(Failure)
      expect(caught).toMatchObject({
        code: Code.ABORTED,
        reason: 'ETAG_STALE',
        message: 'someone was faster: 50 % ✓',
        metadata: { model: 'models/flights' },
        violations: [{ field: 'etag', description: 'is stale' }],
        retryAfterMs: 1250,
      })
    }
  })

  it('answer an opaque INTERNAL for anything else that is thrown, and onError hears the cause', async () => {
    const heard: unknown[] = []
    const { client } = await serveEcho(
      {
        echo: () => Promise.reject(new Error('secret')),
        count: () => {
          throw new TypeError('secret')
        },
        collect: () => {
          throw new RangeError('secret')
        },
        async *chat() {
          yield { text: 'first' }
          throw 'secret'
        },
      },
      { ...hot, onError: ({ cause }, { method }) => heard.push([method, cause]) },
    )
    const opaque = { code: Code.INTERNAL, reason: 'INTERNAL', message: 'internal error' }
    await expect(client.echo({})).rejects.toMatchObject(opaque)
    await expect(all(client.count({}))).rejects.toMatchObject(opaque)
    await expect(client.collect(texts())).rejects.toMatchObject(opaque)
    await expect(all(client.chat(texts()))).rejects.toMatchObject(opaque)
    expect(heard).toEqual([
      ['slipway.testing.v1.EchoService/Echo', new Error('secret')],
      ['slipway.testing.v1.EchoService/Count', new TypeError('secret')],
      ['slipway.testing.v1.EchoService/Collect', new RangeError('secret')],
      ['slipway.testing.v1.EchoService/Chat', 'secret'],
    ])
  })

  it('do not reach the handler with a request that breaks a rule', async () => {
    let called = false
    const { client } = await serveEcho(
      {
        echo: async () => {
          called = true
          return {}
        },
        collect: echoHandlers.collect,
      },
      hot,
    )
    await expect(client.echo({ limited: 11 })).rejects.toMatchObject({
      code: Code.INVALID_ARGUMENT,
      violations: [{ field: 'limited' }],
    })
    expect(called).toBe(false)
    const long = 'x'.repeat(1_000_001)
    await expect(client.collect(texts('fine', long))).rejects.toMatchObject({ violations: [{ field: 'text' }] })
  })

  it('tell the handler method, deadline, headers and peer, and send its trailers', async () => {
    const seen = Promise.withResolvers<CallContext>()
    const { client } = await serveEcho(
      {
        echo: async ({ text }, context) => {
          context.setTrailer('trailer', 'yes')
          seen.resolve(context)
          return { text: `${text} ${context.header('who')} ${context.header('missing')}` }
        },
      },
      hot,
    )
    const { text } = await client.echo({ text: 'hi' }, { headers: { who: 'ada' }, timeoutMs: 5000 })
    expect(text).toBe('hi ada undefined')
    const context = await seen.promise
    expect(context.method).toBe('slipway.testing.v1.EchoService/Echo')
    expect(context.peer).toMatch(/^127\.0\.0\.1:\d+$/)
    expect(context.remainingMs()).toBeGreaterThan(0)
    expect(context.remainingMs()).toBeLessThanOrEqual(5000)
    expect(context.deadlineMs).toBeGreaterThan(Date.now())
  })

  it('abort the signal with the reason when the caller cancels, and let the generator finish', async () => {
    const aborted = Promise.withResolvers<unknown>()
    const finished = Promise.withResolvers<void>()
    const { client } = await serveEcho(
      {
        async *count(_request, { signal }) {
          signal.addEventListener('abort', () => aborted.resolve(signal.reason))
          try {
            for (let index = 0; ; index++) yield { index }
          } finally {
            finished.resolve()
          }
        },
      },
      hot,
    )
    for await (const { index } of client.count({})) if (index === 5) break
    expect(await aborted.promise).toMatchObject({ code: Code.CANCELLED })
    await finished.promise
  })

  it('hold a producer back that is faster than its reader', async () => {
    let produced = 0
    const { client } = await serveEcho(
      {
        async *count() {
          for (; produced < 10_000; produced++) yield { text: 'x'.repeat(10_000) }
        },
      },
      { ...hot, limits: { streamBufferBytes: 65_536 } },
    )
    const answers = client.count({})[Symbol.asyncIterator]()
    await answers.next()
    for (let i = 0; i < 10; i++) await new Promise((resolve) => setTimeout(resolve, 5))
    expect(produced).toBeLessThan(5000)
    await answers.return?.()
  })

  it('end a call at its deadline', async () => {
    const aborted = Promise.withResolvers<unknown>()
    const { client } = await serveEcho(
      {
        echo: (_request, { signal }) =>
          new Promise((_resolve, reject) => {
            signal.addEventListener('abort', () => {
              aborted.resolve(signal.reason)
              reject(signal.reason)
            })
          }),
      },
      hot,
    )
    await expect(all(client.count({}))).rejects.toMatchObject({ code: Code.UNIMPLEMENTED }) // connects
    await expect(client.echo({}, { timeoutMs: 300 })).rejects.toMatchObject({ code: Code.DEADLINE_EXCEEDED })
    // The caller's own clock may be the first to see it; it then resets the call.
    expect(await aborted.promise).toBeInstanceOf(Failure)
  })

  it('answer an opaque INTERNAL when a handler sets a trailer that is none', async () => {
    const heard: unknown[] = []
    const { client } = await serveEcho(
      {
        echo: async (_request, context) => {
          context.setTrailer('line', 'two\nlines')
          return {}
        },
      },
      { ...hot, onError: ({ cause }) => heard.push(cause) },
    )
    await expect(client.echo({})).rejects.toMatchObject({ code: Code.INTERNAL, message: 'internal error' })
    expect(heard).toEqual([new TypeError('line is no trailer')])
  })

  it('never take a cancelled upload for a complete one', async () => {
    const outcome = Promise.withResolvers<unknown>()
    const controller = new AbortController()
    const { client } = await serveEcho(
      {
        collect: async (requests) => {
          try {
            for await (const _ of requests) setTimeout(() => controller.abort(), 1)
            outcome.resolve('complete')
          } catch (error) {
            outcome.resolve(error)
          }
          return {}
        },
      },
      hot,
    )
    async function* half() {
      yield { text: 'half' }
      await new Promise(() => {})
    }
    const call = client.collect(half(), { signal: controller.signal })
    await expect(call).rejects.toMatchObject({ code: Code.CANCELLED })
    expect(await outcome.promise).toMatchObject({ code: Code.CANCELLED })
  })
})

describe('createServer', () => {
  const listen = { host: '127.0.0.1', port: 0 }

  it('combines typed and raw methods of one service', async () => {
    const { client } = await serveEcho(
      {},
      {
        implementations: [
          implement(EchoService, { collect: echoHandlers.collect }),
          implementRawUnary(EchoService.method.echo, (request, call) => call.answer(request)),
        ],
      },
    )
    expect(await client.echo({ text: 'raw' })).toMatchObject({ text: 'raw' })
    expect(await client.collect(texts('typed'))).toMatchObject({ text: 'typed' })
    await expect(all(client.count({}))).rejects.toMatchObject({ code: Code.UNIMPLEMENTED })
  })

  it('refuses a method that is implemented twice', () => {
    const twice = [implement(EchoService, echoHandlers), implement(EchoService, echoHandlers)]
    expect(() => createServer({ implementations: twice, listen })).toThrow('implemented twice')
  })

  it('refuses plain text beyond loopback, unless a mesh encrypts', () => {
    const open = { host: '0.0.0.0', port: 0 }
    expect(() => createServer({ implementations: [], listen: open })).toThrow(
      expect.objectContaining({ code: Code.FAILED_PRECONDITION, reason: 'PLAIN_TEXT_REFUSED' }),
    )
    expect(() => createServer({ implementations: [], listen: open, behindMesh: true })).not.toThrow()
    for (const host of ['127.0.0.1', '127.1.2.3', '::1', 'localhost']) {
      expect(() => createServer({ implementations: [], listen: { host, port: 0 } })).not.toThrow()
    }
    for (const host of ['::', '10.0.0.1', '127.0.0.1.example.com', 'example.com']) {
      expect(() => createServer({ implementations: [], listen: { host, port: 0 } })).toThrow('loopback')
    }
  })

  it('says why it cannot listen', async () => {
    const { address } = await serveEcho()
    const port = Number(address.split(':')[1])
    const second = createServer({ implementations: [], listen: { host: '127.0.0.1', port } })
    await expect(second.start()).rejects.toThrow('EADDRINUSE')
    await second.drain({ graceMs: 0 })
  })

  it('lets a connection have only so many calls at a time', async () => {
    let active = 0
    let most = 0
    const { client } = await serveEcho(
      {
        echo: async () => {
          most = Math.max(most, ++active)
          await new Promise((resolve) => setTimeout(resolve, 5))
          active--
          return {}
        },
      },
      { limits: { maxConcurrentStreams: 4 } },
    )
    await client.echo({})
    await Promise.all(Array.from({ length: 20 }, () => client.echo({})))
    expect(most).toBeLessThanOrEqual(4)
  })

  it('refuses a header block above the limit', async () => {
    const { client } = await serveEcho(echoHandlers, { limits: { maxMetadataBytes: 2000 } })
    await client.echo({})
    await expect(client.echo({}, { headers: { large: 'x'.repeat(4000) } })).rejects.toBeInstanceOf(Failure)
    expect(await client.echo({ text: 'next' })).toMatchObject({ text: 'next' })
  })
})
