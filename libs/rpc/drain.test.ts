import { Health, HealthCheckResponse_ServingStatus as Status } from '@slipway/proto/grpc/health/v1/health'
import { EchoService } from '@slipway/proto/slipway/testing/v1/echo'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createClient } from './client.ts'
import { Code } from './code.ts'
import { all, allHot, echoHandlers, serveEcho, texts } from './echo.fixture.ts'
import type { Failure } from './failure.ts'
import { implementRawStream } from './raw.ts'
import { openRawStream } from './raw-client.ts'

const NAME = EchoService.typeName

function healthOf(address: string) {
  const client = createClient(Health, { address })
  onTestFinished(() => client.close())
  return client
}

describe('health', () => {
  it('tells of every service and of the server as a whole', async () => {
    const { server, address } = await serveEcho()
    const health = healthOf(address)
    expect(await health.check({})).toMatchObject({ status: Status.SERVING })
    expect(await health.check({ service: NAME })).toMatchObject({ status: Status.SERVING })
    server.health.set(NAME, false)
    expect(await health.check({ service: NAME })).toMatchObject({ status: Status.NOT_SERVING })
    expect((await health.list({})).statuses).toMatchObject({
      '': { status: Status.SERVING },
      [NAME]: { status: Status.NOT_SERVING },
    })
    await expect(health.check({ service: 'unknown' })).rejects.toMatchObject({ code: Code.NOT_FOUND })
  })

  it('is watched: the present status, every change, and NOT_SERVING last', async () => {
    const { server, address } = await serveEcho()
    const watch = healthOf(address).watch({ service: NAME })[Symbol.asyncIterator]()
    const next = async () => (await watch.next()).value?.status
    expect(await next()).toBe(Status.SERVING)
    server.health.set(NAME, false)
    expect(await next()).toBe(Status.NOT_SERVING)
    server.health.set(NAME, true)
    expect(await next()).toBe(Status.SERVING)
    const drained = server.drain()
    expect(await next()).toBe(Status.NOT_SERVING)
    await expect(watch.next()).rejects.toMatchObject({ code: Code.UNAVAILABLE, reason: 'DRAINING' })
    await drained
  })

  it('answers a watch of a service that it does not have with SERVICE_UNKNOWN until it has it', async () => {
    const { server, address } = await serveEcho()
    const watch = healthOf(address).watch({ service: 'later' })[Symbol.asyncIterator]()
    expect((await watch.next()).value?.status).toBe(Status.SERVICE_UNKNOWN)
    server.health.set('later', true)
    expect((await watch.next()).value?.status).toBe(Status.SERVING)
    await watch.return?.()
  })
})

describe.each([
  ['grpc-js', {}],
  ['the lean path', allHot],
])('a drain on %s', (_transport, hot) => {
  it('lets calls in flight finish, and then nothing answers any more', async () => {
    const entered = Promise.withResolvers<void>()
    const release = Promise.withResolvers<void>()
    const { server, client, connect } = await serveEcho(
      {
        echo: async ({ text }) => {
          entered.resolve()
          await release.promise
          return { text }
        },
      },
      hot,
    )
    const answer = client.echo({ text: 'in flight' })
    await entered.promise
    const drained = server.drain()
    release.resolve()
    expect(await answer).toMatchObject({ text: 'in flight' })
    await drained
    const late = connect({ retry: { maxAttempts: 1 } })
    await expect(late.echo({})).rejects.toMatchObject({ code: Code.UNAVAILABLE })
  })

  it('breaks no call under load: what is not answered was never sent', async () => {
    const { server, connect } = await serveEcho(echoHandlers, hot)
    const client = connect({ retry: { maxAttempts: 1 } })
    const failures: Failure[] = []
    let answered = 0
    const caller = async (): Promise<void> => {
      while (failures.length === 0) {
        await client.echo({}).then(
          () => answered++,
          (failure: Failure) => failures.push(failure),
        )
      }
    }
    const callers = Promise.all(Array.from({ length: 16 }, caller))
    while (answered < 200) await new Promise((resolve) => setTimeout(resolve, 1))
    await server.drain()
    await callers
    for (const { code, message } of failures) {
      expect({ code, message }).toEqual({
        code: Code.UNAVAILABLE,
        message: expect.stringMatching(/^No connection established/),
      })
    }
  })

  it('ends a stream on which nothing moves with UNAVAILABLE', async () => {
    const { server, client } = await serveEcho(
      {
        async *count(_request, { signal }) {
          yield { text: 'first' }
          await new Promise((resolve) => signal.addEventListener('abort', resolve))
        },
      },
      { ...hot, limits: { drainQuietMs: 20 } },
    )
    const answers = client.count({})[Symbol.asyncIterator]()
    await answers.next()
    const drained = server.drain()
    await expect(answers.next()).rejects.toMatchObject({ code: Code.UNAVAILABLE, reason: 'DRAINING' })
    await drained
  })

  it('lets a stream finish that moves', async () => {
    const { server, client } = await serveEcho(
      {
        async *count({ count }) {
          for (let index = 0; index < count; index++) {
            yield { index }
            await new Promise((resolve) => setTimeout(resolve, 10))
          }
        },
      },
      { ...hot, limits: { drainQuietMs: 200 } },
    )
    const answers = client.count({ count: 50 })[Symbol.asyncIterator]()
    await answers.next()
    const drained = server.drain()
    let received = 1
    while ((await answers.next()).done !== true) received++
    expect(received).toBe(50)
    await drained
  })

  it('ends what is left when the time is up', async () => {
    const entered = Promise.withResolvers<void>()
    const { server, connect } = await serveEcho(
      {
        echo: () => {
          entered.resolve()
          return new Promise(() => {})
        },
      },
      hot,
    )
    const answer = connect({ retry: { maxAttempts: 1 } }).echo({})
    const failed = expect(answer).rejects.toMatchObject({ code: Code.UNAVAILABLE, reason: 'INTERRUPTED' })
    await entered.promise
    await server.drain({ graceMs: 50 })
    await failed
  })

  it('is bounded also when a caller does not take its answers', async () => {
    const { server, client } = await serveEcho(
      {
        async *count() {
          for (;;) yield { text: 'x'.repeat(100_000) }
        },
      },
      hot,
    )
    const answers = client.count({})[Symbol.asyncIterator]()
    await answers.next()
    await server.drain({ graceMs: 50 })
    await expect(
      (async () => {
        while ((await answers.next()).done !== true);
      })(),
    ).rejects.toMatchObject({ code: Code.UNAVAILABLE })
  })

  it('waits for the answer to an upload that was sent completely', async () => {
    const entered = Promise.withResolvers<void>()
    const { server, client } = await serveEcho(
      {
        collect: async (requests) => {
          const received = await all(requests)
          entered.resolve()
          await new Promise((resolve) => setTimeout(resolve, 100))
          return { index: received.length }
        },
      },
      { ...hot, limits: { drainQuietMs: 10 } },
    )
    const answer = client.collect(texts('a', 'b'))
    await entered.promise
    await server.drain()
    expect(await answer).toMatchObject({ index: 2 })
  })
})

it('a drain tells the owner of a raw stream to go elsewhere, and what is in flight is answered', async () => {
  const waiting: (() => void)[] = []
  const { server, address } = await serveEcho(
    {},
    {
      implementations: [
        implementRawStream(EchoService.method.chat, (stream) => {
          stream.onMessage((message) => waiting.push(() => stream.write(message)))
          stream.onEnd(() => {
            for (const answer of waiting) answer()
            stream.end()
          })
        }),
      ],
    },
  )
  const stream = openRawStream(EchoService.method.chat, { address })
  const answers: string[] = []
  const closed = new Promise((resolve) => stream.onClose(resolve))
  stream.onMessage((message) => answers.push(message.toString()))
  stream.onLeaving(() => stream.end())
  stream.write(Buffer.from('in flight'))
  while (waiting.length === 0) await new Promise((resolve) => setTimeout(resolve, 1))
  await server.drain()
  expect(await closed).toBeUndefined()
  expect(answers).toEqual(['in flight'])
})
