import { createServer as createTcpServer } from 'node:net'
import { EchoService } from '@slipway/proto/slipway/testing/v1/echo'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Code } from './code.ts'
import { currentCall } from './context.ts'
import { allHot, echoHandlers, serveEcho } from './echo.fixture.ts'
import { Failure } from './failure.ts'
import { implementRawStream, implementRawUnary, type RawStream, type RawUnaryCall } from './raw.ts'
import { callRawUnary, openRawChannel, openRawStream, type RawChannelOptions } from './raw-client.ts'
import type { RawClientStream } from './raw-client-stream.ts'

const { echo, chat } = EchoService.method

async function serveRaw(
  unary: (request: Buffer, call: RawUnaryCall) => void = (request, call) => call.answer(request),
  stream: (stream: RawStream) => void = echoStream,
  transport: 'lean' | 'grpc-js' = 'lean',
) {
  return await serveEcho(
    {},
    { transport, implementations: [implementRawUnary(echo, unary), implementRawStream(chat, stream)] },
  )
}

function echoStream(stream: RawStream): void {
  stream.onMessage((message) => stream.write(message))
  stream.onEnd(() => stream.end())
}

function channelTo(address: string, options: Partial<RawChannelOptions> = {}) {
  const channel = openRawChannel({ address, ...options })
  onTestFinished(() => channel.close())
  return channel
}

const never = (): never => {
  throw new Error('nothing was opened')
}

const closed = (stream: RawClientStream): Promise<Failure | undefined> =>
  new Promise((resolve) => stream.onClose(resolve))

describe.each(['lean', 'grpc-js'] as const)('a raw channel to a server on %s', (transport) => {
  it('calls, also many times at once over a few connections', async () => {
    const { address } = await serveRaw(undefined, undefined, transport)
    const channel = channelTo(address, { connections: 3 })
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, index) => callRawUnary(channel, echo, Buffer.from(`${index}`))),
    )
    expect(answers.map(String)).toEqual(Array.from({ length: 200 }, (_, index) => `${index}`))
  })

  it('brings a failure with its details', async () => {
    const failure = new Failure(Code.RESOURCE_EXHAUSTED, 'QUEUE_FULL', 'später 100 %', { retryAfterMs: 20 })
    const { address } = await serveRaw((_request, call) => call.fail(failure), undefined, transport)
    await expect(channelTo(address).callUnary(echo, Buffer.alloc(0))).rejects.toMatchObject({
      code: Code.RESOURCE_EXHAUSTED,
      reason: 'QUEUE_FULL',
      message: 'später 100 %',
      retryAfterMs: 20,
    })
  })

  it('sends headers and a deadline, and ends the call when that passes', async () => {
    const cancelled = Promise.withResolvers<void>()
    const seen: unknown[] = []
    const { address } = await serveRaw(
      (_request, call) => {
        seen.push(call.header('who'), call.deadlineMs <= Date.now() + 50)
        call.onCancel(() => cancelled.resolve())
      },
      undefined,
      transport,
    )
    const call = channelTo(address).callUnary(echo, Buffer.alloc(0), { timeoutMs: 50, headers: { who: 'ada' } })
    await expect(call).rejects.toMatchObject({ code: Code.DEADLINE_EXCEEDED })
    await cancelled.promise
    expect(seen).toEqual(['ada', true])
  })

  it('cancels a call', async () => {
    const cancelled = Promise.withResolvers<void>()
    const entered = Promise.withResolvers<void>()
    const { address } = await serveRaw(
      (_request, call) => {
        call.onCancel(() => cancelled.resolve())
        entered.resolve()
      },
      undefined,
      transport,
    )
    const controller = new AbortController()
    const call = channelTo(address).callUnary(echo, Buffer.alloc(0), { signal: controller.signal })
    const failed = expect(call).rejects.toMatchObject({ code: Code.CANCELLED })
    await entered.promise
    controller.abort()
    await failed
    await cancelled.promise
  })

  it('carries a stream of messages of any size, in order, to its end', async () => {
    const { address } = await serveRaw(undefined, undefined, transport)
    const stream = openRawStream(chat, { address })
    const over = closed(stream)
    const received: number[] = []
    stream.onMessage((message) => received.push(message.length))
    const sizes = [0, 1, 65_536, 3, 500_000, 16_384, 2]
    for (const size of sizes) stream.write(Buffer.alloc(size))
    stream.end()
    expect(await over).toBeUndefined()
    expect(received).toEqual(sizes)
  })
})

describe('a raw stream', () => {
  it('sends and answers all messages of one turn together', async () => {
    const chunks: number[] = []
    const { address } = await serveRaw(undefined, (stream) => {
      let heard = 0
      stream.onMessage((message) => {
        if (heard++ === 0) setImmediate(() => chunks.push(heard))
        stream.write(message)
      })
    })
    const stream = openRawStream(chat, { address })
    onTestFinished(() => stream.cancel())
    const answered = Promise.withResolvers<void>()
    let answers = 0
    let together = 0
    stream.onMessage(() => {
      if (answers++ === 0) setImmediate(() => (together = answers))
      if (answers === 101) answered.resolve()
    })
    stream.write(Buffer.from('connects'))
    while (answers === 0) await new Promise((resolve) => setTimeout(resolve, 1))
    answers = 0
    chunks.length = 0
    for (let i = 0; i <= 100; i++) stream.write(Buffer.from(`${i}`))
    await answered.promise
    await new Promise((resolve) => setImmediate(resolve))
    expect(together).toBe(101)
  })

  it('hears why it was closed by the server', async () => {
    const { address } = await serveRaw(undefined, (stream) => {
      stream.onMessage(() => stream.fail(new Failure(Code.NOT_FOUND, 'NO_MODEL', 'no such model')))
    })
    const stream = openRawStream(chat, { address })
    stream.write(Buffer.from('x'))
    expect(await closed(stream)).toMatchObject({ code: Code.NOT_FOUND, reason: 'NO_MODEL' })
  })

  it('is closed with UNAVAILABLE when nobody listens, and when the server is gone', async () => {
    const { address, server } = await serveRaw()
    const stream = openRawStream(chat, { address })
    stream.onMessage(() => void server.drain({ graceMs: 0 }))
    stream.write(Buffer.from('x'))
    expect(await closed(stream)).toMatchObject({ code: Code.UNAVAILABLE })
    const late = openRawStream(chat, { address })
    late.write(Buffer.from('x'))
    expect(await closed(late)).toMatchObject({ code: Code.UNAVAILABLE, reason: 'CONNECTION_LOST' })
    await expect(channelTo(address).callUnary(echo, Buffer.alloc(0))).rejects.toMatchObject({ code: Code.UNAVAILABLE })
  })

  it('is closed with CANCELLED when it is cancelled, and the server hears of it', async () => {
    const cancelled = Promise.withResolvers<void>()
    const { address } = await serveRaw(undefined, (stream) => {
      echoStream(stream)
      stream.onCancel(() => cancelled.resolve())
    })
    const stream = openRawStream(chat, { address })
    const over = closed(stream)
    stream.onMessage(() => stream.cancel())
    stream.write(Buffer.from('x'))
    expect(await over).toMatchObject({ code: Code.CANCELLED })
    await cancelled.promise
  })

  it('says when the server does not read, and when it reads again', async () => {
    const held = Promise.withResolvers<RawStream>()
    const { address } = await serveRaw(undefined, (stream) => {
      stream.pause()
      held.resolve(stream)
      stream.onEnd(() => stream.end())
    })
    const stream = openRawStream(chat, { address, limits: { streamBufferBytes: 100_000 } })
    const over = closed(stream)
    while (!stream.needsDrain) {
      stream.write(Buffer.alloc(10_000))
      await new Promise((resolve) => setImmediate(resolve))
    }
    const drained = new Promise<void>((resolve) => stream.onDrain(resolve))
    const server = await held.promise
    server.resume()
    await drained
    expect(stream.needsDrain).toBe(false)
    stream.end()
    expect(await over).toBeUndefined()
  })

  it('refuses to send and to read messages above its limits', async () => {
    const { address } = await serveRaw()
    const stream = openRawStream(chat, { address, limits: { maxRequestBytes: 100 } })
    stream.write(Buffer.alloc(101))
    expect(await closed(stream)).toMatchObject({ code: Code.RESOURCE_EXHAUSTED })
    const reader = openRawStream(chat, { address, limits: { maxResponseBytes: 100 } })
    reader.write(Buffer.alloc(101))
    expect(await closed(reader)).toMatchObject({ code: Code.RESOURCE_EXHAUSTED })
  })
})

describe('a raw channel', () => {
  it('opens streams that outlive the call in which they were opened, unless told otherwise', async () => {
    const { address } = await serveRaw()
    const channel = channelTo(address)
    const opened: { pooled: RawClientStream; bound: RawClientStream }[] = []
    const front = await serveEcho({
      echo: async () => {
        opened.push({ pooled: channel.openStream(chat), bound: channel.openStream(chat, { inherit: true }) })
        return await new Promise(() => {})
      },
    })
    const controller = new AbortController()
    const call = expect(front.client.echo({}, { signal: controller.signal })).rejects.toBeInstanceOf(Failure)
    while (opened.length === 0) await new Promise((resolve) => setTimeout(resolve, 1))
    const [{ pooled, bound } = never()] = opened
    const over = closed(bound)
    controller.abort()
    await call
    expect(await over).toMatchObject({ code: Code.CANCELLED })
    const answer = new Promise((resolve) => pooled.onMessage((message) => resolve([`${message}`, currentCall()])))
    pooled.write(Buffer.from('still here'))
    expect(await answer).toEqual(['still here', undefined])
    pooled.cancel()
  })

  it('gives up a connection that says nothing any more', async () => {
    const silent = createTcpServer((socket) => void socket.on('error', () => {}))
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void silent.close())
    const bound = silent.address()
    const port = typeof bound === 'object' ? bound?.port : undefined
    const channel = channelTo(`127.0.0.1:${port}`, { limits: { keepaliveMs: 20, keepaliveTimeoutMs: 20 } })
    await expect(channel.callUnary(echo, Buffer.alloc(0))).rejects.toMatchObject({
      code: Code.UNAVAILABLE,
      reason: 'CONNECTION_LOST',
    })
  })

  it('connects again after its server came back', async () => {
    const first = await serveRaw()
    const channel = channelTo(first.address)
    expect(String(await channel.callUnary(echo, Buffer.from('a')))).toBe('a')
    await first.server.drain({ graceMs: 0 })
    await expect(channel.callUnary(echo, Buffer.from('b'))).rejects.toMatchObject({ code: Code.UNAVAILABLE })
    const listen = { host: '127.0.0.1', port: Number(first.address.split(':')[1]) }
    await serveEcho(echoHandlers, { ...allHot, listen })
    expect((await channel.callUnary(echo, Buffer.alloc(0))).length).toBe(0)
  })

  it('breaks no call while its server drains and another takes over', async () => {
    const first = await serveRaw()
    const channel = channelTo(first.address, { connections: 2 })
    const failures: Failure[] = []
    let answered = 0
    const caller = async (): Promise<void> => {
      while (failures.length === 0) {
        await channel.callUnary(echo, Buffer.from('x')).then(
          () => answered++,
          (failure: Failure) => failures.push(failure),
        )
      }
    }
    const callers = Promise.all(Array.from({ length: 16 }, caller))
    while (answered < 200) await new Promise((resolve) => setTimeout(resolve, 1))
    await first.server.drain()
    await callers
    for (const failure of failures) expect(failure.message).toMatch(/^no connection: .*ECONNREFUSED/)
  })
})
