import { createServer as createTcpServer, connect as tcpConnect } from 'node:net'
import { EchoService } from '@slipway/proto/slipway/testing/v1/echo'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createClient } from './client.ts'
import { Code } from './code.ts'
import type { CallContext } from './context.ts'
import { all, allHot, echoHandlers, serveEcho, texts } from './echo.fixture.ts'
import { Failure } from './failure.ts'
import { DEFAULT_TIMEOUT_MS } from './limits.ts'
import { implementRawUnary } from './raw.ts'
import { openRawChannel } from './raw-client.ts'

describe.each([
  ['grpc-js', {}],
  ['the lean path', allHot],
])('a call that is made for another call, on %s', (_transport, hot) => {
  async function chain(behind: (context: CallContext) => Promise<object>) {
    const back = await serveEcho({ echo: (_request, context) => behind(context) }, hot)
    return await serveEcho(
      {
        echo: (request) => back.client.echo(request),
        async *count({ text }) {
          yield await back.client.echo({ text })
        },
      },
      hot,
    )
  }

  it('has no later deadline than that one', async () => {
    const deadlines: number[] = []
    const { client } = await chain(async ({ deadlineMs }) => {
      deadlines.push(deadlineMs)
      return {}
    })
    const begunMs = Date.now()
    await client.echo({}, { timeoutMs: 5000 })
    await all(client.count({}, { timeoutMs: 5000 }))
    await client.echo({}, { timeoutMs: 3_600_000 })
    // Without the caller's word it would be the inner client's own, which is DEFAULT_TIMEOUT_MS.
    const soonMs = begunMs + DEFAULT_TIMEOUT_MS / 2
    expect(deadlines.map((deadlineMs) => deadlineMs < soonMs)).toEqual([true, true, false])
    expect(deadlines[2]).toBeLessThan(begunMs + 2 * DEFAULT_TIMEOUT_MS)
  })

  it('is cancelled with it', async () => {
    const entered = Promise.withResolvers<void>()
    const aborted = Promise.withResolvers<unknown>()
    const { client } = await chain(({ signal }) => {
      signal.addEventListener('abort', () => aborted.resolve(signal.reason))
      entered.resolve()
      return new Promise(() => {})
    })
    const controller = new AbortController()
    const call = expect(client.echo({}, { signal: controller.signal })).rejects.toMatchObject({ code: Code.CANCELLED })
    await entered.promise
    controller.abort()
    await call
    expect(await aborted.promise).toMatchObject({ code: Code.CANCELLED })
  })

  it('fails with the failure of the one behind it', async () => {
    const { client } = await chain(() => Promise.reject(new Failure(Code.NOT_FOUND, 'NO_MODEL', 'no such model')))
    await expect(client.echo({})).rejects.toMatchObject({ code: Code.NOT_FOUND, reason: 'NO_MODEL' })
  })
})

it('a call that a raw handler makes on a raw channel is cancelled with its own', async () => {
  const { echo } = EchoService.method
  const entered = Promise.withResolvers<void>()
  const aborted = Promise.withResolvers<void>()
  const back = await serveEcho(
    {},
    {
      implementations: [
        implementRawUnary(echo, (_request, call) => {
          call.onCancel(aborted.resolve)
          entered.resolve()
        }),
      ],
    },
  )
  const channel = openRawChannel({ address: back.address })
  onTestFinished(() => channel.close())
  const front = await serveEcho(
    {},
    {
      implementations: [
        implementRawUnary(echo, (request, call) => {
          channel.callUnary(echo, request).then(
            (answer) => call.answer(answer),
            (error) => call.fail(error),
          )
        }),
      ],
    },
  )
  const controller = new AbortController()
  const call = expect(front.client.echo({}, { signal: controller.signal })).rejects.toBeInstanceOf(Failure)
  await entered.promise
  controller.abort()
  await call
  await aborted.promise
})

describe('a call', () => {
  it('does not leave when it is cancelled already', async () => {
    let called = 0
    const { client } = await serveEcho({
      echo: async () => {
        called++
        return {}
      },
    })
    const signal = AbortSignal.abort('why')
    await expect(client.echo({}, { signal })).rejects.toMatchObject({ code: Code.CANCELLED, cause: 'why' })
    await expect(all(client.count({}, { signal }))).rejects.toMatchObject({ code: Code.CANCELLED })
    await expect(client.echo({}, { timeoutMs: 0 })).rejects.toMatchObject({ code: Code.DEADLINE_EXCEEDED })
    expect(called).toBe(0)
  })

  it('fails with what its own requests throw', async () => {
    const { client } = await serveEcho()
    async function* broken() {
      yield { text: 'a' }
      throw new RangeError('mine')
    }
    await expect(client.collect(broken())).rejects.toThrow(new RangeError('mine'))
    await expect(all(client.chat(broken()))).rejects.toThrow(new RangeError('mine'))
  })

  it('lets its requests finish when the server ends it early', async () => {
    const finished = Promise.withResolvers<void>()
    const { client } = await serveEcho({
      collect: () => Promise.reject(new Failure(Code.FAILED_PRECONDITION, 'ENOUGH', 'enough')),
    })
    async function* endless() {
      try {
        for (;;) {
          yield { text: 'more' }
          await new Promise((resolve) => setTimeout(resolve, 1))
        }
      } finally {
        finished.resolve()
      }
    }
    await expect(client.collect(endless())).rejects.toMatchObject({ reason: 'ENOUGH' })
    await finished.promise
  })

  it('refuses an answer above the limit', async () => {
    const { connect } = await serveEcho({ echo: async () => ({ text: 'x'.repeat(2000) }) })
    await expect(connect({ limits: { maxResponseBytes: 1000 } }).echo({})).rejects.toMatchObject({
      code: Code.RESOURCE_EXHAUSTED,
    })
  })
})

describe('a client', () => {
  it('fails with a Failure after it was closed', async () => {
    const { client } = await serveEcho()
    client.close()
    await expect(client.echo({})).rejects.toBeInstanceOf(Failure)
    await expect(all(client.count({}))).rejects.toBeInstanceOf(Failure)
    await expect(client.collect(texts('a'))).rejects.toBeInstanceOf(Failure)
  })

  it('lets calls in flight finish when it is closed', async () => {
    const entered = Promise.withResolvers<void>()
    const release = Promise.withResolvers<void>()
    const { client } = await serveEcho({
      echo: async ({ text }) => {
        entered.resolve()
        await release.promise
        return { text }
      },
    })
    const answer = client.echo({ text: 'a' })
    await entered.promise
    client.close()
    release.resolve()
    expect(await answer).toMatchObject({ text: 'a' })
  })

  it('says that an answer is not the message that it should be', async () => {
    const { echo } = EchoService.method
    const implementations = [implementRawUnary(echo, (_request, call) => call.answer(Buffer.from([0x0a, 0x7f])))]
    const { client } = await serveEcho({}, { implementations })
    await expect(client.echo({})).rejects.toMatchObject({ code: Code.INTERNAL, reason: 'MALFORMED_MESSAGE' })
  })
})

describe('a retry', () => {
  function failing(times: number, failure: Failure, trailers: Record<string, string> = {}) {
    const attempts: (string | undefined)[] = []
    return {
      attempts,
      echo: async ({ text }: { text: string }, context: CallContext) => {
        attempts.push(context.header('grpc-previous-rpc-attempts'))
        if (attempts.length > times) return { text }
        for (const [name, value] of Object.entries(trailers)) context.setTrailer(name, value)
        throw failure
      },
    }
  }
  const unavailable = new Failure(Code.UNAVAILABLE, 'LOADING', 'the model is loading')

  it('hides a server that is unavailable for a moment', async () => {
    const { echo, attempts } = failing(2, unavailable)
    const { client } = await serveEcho({ echo })
    expect(await client.echo({ text: 'a' })).toMatchObject({ text: 'a' })
    expect(attempts).toEqual([undefined, '1', '2'])
  })

  it('gives up after the last attempt, with the failure', async () => {
    const { echo, attempts } = failing(99, unavailable)
    const { client } = await serveEcho({ echo })
    await expect(client.echo({})).rejects.toMatchObject({ reason: 'LOADING' })
    expect(attempts).toHaveLength(4)
  })

  it('happens for UNAVAILABLE only', async () => {
    const { echo, attempts } = failing(99, new Failure(Code.RESOURCE_EXHAUSTED, 'FULL', 'full', { retryAfterMs: 1 }))
    const { client } = await serveEcho({ echo })
    await expect(client.echo({})).rejects.toMatchObject({ reason: 'FULL' })
    expect(attempts).toHaveLength(1)
  })

  it('does not happen when the server asks not to be tried again', async () => {
    const { echo, attempts } = failing(99, unavailable, { 'grpc-retry-pushback-ms': '-1' })
    const { client } = await serveEcho({ echo })
    await expect(client.echo({})).rejects.toMatchObject({ reason: 'LOADING' })
    expect(attempts).toHaveLength(1)
  })

  it('does not happen when the server asks for more time than the call has', async () => {
    const later = new Failure(Code.UNAVAILABLE, 'LOADING', 'later', { retryAfterMs: 60_000 })
    const { echo, attempts } = failing(99, later)
    const { client } = await serveEcho({ echo })
    await expect(client.echo({}, { timeoutMs: 5000 })).rejects.toMatchObject({ reason: 'LOADING' })
    expect(attempts).toHaveLength(1)
  })

  it('cannot multiply the load on a server that is down', async () => {
    const { echo, attempts } = failing(Number.POSITIVE_INFINITY, unavailable)
    const { client } = await serveEcho({ echo })
    const calls = 100
    await Promise.allSettled(Array.from({ length: calls }, () => client.echo({})))
    // At most a fifth of the calls retries at a time, and each at most three times.
    expect(attempts.length).toBeLessThanOrEqual(calls + 3 * 0.2 * calls + 3)
  })

  it('waits out a server that is not there yet', async () => {
    const { address, server } = await serveEcho()
    await server.drain({ graceMs: 0 })
    const client = createClient(EchoService, { address, retry: { maxAttempts: 50, maxBackoffMs: 50 } })
    onTestFinished(() => client.close())
    const answer = client.echo({ text: 'patience' })
    await serveEcho(echoHandlers, { listen: { host: '127.0.0.1', port: Number(address.split(':')[1]) } })
    expect(await answer).toMatchObject({ text: 'patience' })
  })

  it('does not happen when the connection broke and nobody knows how far the call came, unless told to', async () => {
    let attempts = 0
    const { address } = await serveEcho({
      echo: () => {
        attempts++
        cut()
        return new Promise(() => {})
      },
    })
    let cut = (): void => {}
    const proxy = createTcpServer((socket) => {
      const server = tcpConnect(Number(address.split(':')[1]), '127.0.0.1')
      socket.pipe(server).pipe(socket)
      for (const end of [socket, server]) end.on('error', () => {})
      cut = () => socket.destroy()
    })
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void proxy.close())
    const bound = proxy.address()
    const port = typeof bound === 'object' ? bound?.port : undefined
    const careful = createClient(EchoService, { address: `127.0.0.1:${port}` })
    onTestFinished(() => careful.close())
    await expect(careful.echo({})).rejects.toMatchObject({ code: Code.UNAVAILABLE })
    expect(attempts).toBe(1)
    const eager = createClient(EchoService, {
      address: `127.0.0.1:${port}`,
      retry: { resend: 'always', maxAttempts: 3 },
    })
    onTestFinished(() => eager.close())
    await expect(eager.echo({})).rejects.toMatchObject({ code: Code.UNAVAILABLE })
    expect(attempts).toBe(4)
  })

  it('never happens for streams', async () => {
    let attempts = 0
    const { client } = await serveEcho({
      // biome-ignore lint/correctness/useYield: it fails before it yields
      async *count() {
        attempts++
        throw unavailable
      },
      async collect(requests) {
        for await (const _ of requests) attempts++
        throw unavailable
      },
    })
    await expect(all(client.count({}))).rejects.toMatchObject({ reason: 'LOADING' })
    await expect(client.collect(texts('a'))).rejects.toMatchObject({ reason: 'LOADING' })
    expect(attempts).toBe(2)
  })
})
