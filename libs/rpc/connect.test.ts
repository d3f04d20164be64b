import { createServer as createHttp2Server, type Http2Server } from 'node:http2'
import { Code as ConnectCode, ConnectError, createClient as createConnectClient } from '@connectrpc/connect'
import { connectNodeAdapter, createGrpcTransport } from '@connectrpc/connect-node'
import { BadRequestSchema, ErrorInfoSchema } from '@slipway/proto/google/rpc/error_details'
import { EchoService } from '@slipway/proto/slipway/testing/v1/echo'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createClient } from './client.ts'
import { Code } from './code.ts'
import { all, allHot, echoHandlers, serveEcho, texts } from './echo.fixture.ts'
import { Failure } from './failure.ts'
import { openRawChannel } from './raw-client.ts'

// Against a gRPC implementation that shares no code with grpc-js: Connect's, in both directions.

describe.each([
  ['grpc-js', {}],
  ['the lean path', allHot],
])('a foreign client of a server on %s', (_transport, hot) => {
  function foreign(address: string, options = {}) {
    return createConnectClient(EchoService, createGrpcTransport({ baseUrl: `http://${address}`, ...options }))
  }

  it('calls all four kinds', async () => {
    const { address } = await serveEcho(echoHandlers, hot)
    const client = foreign(address)
    expect(await client.echo({ text: 'a' })).toMatchObject({ text: 'a' })
    expect((await all(client.count({ count: 3, text: 'b' }))).map(({ index }) => index)).toEqual([0, 1, 2])
    expect(await client.collect(texts('c', 'd'))).toMatchObject({ text: 'cd' })
    expect((await all(client.chat(texts('e', 'f')))).map(({ text }) => text)).toEqual(['e', 'f'])
  })

  it('reads code, message and details of a failure', async () => {
    const failure = new Failure(Code.FAILED_PRECONDITION, 'GATE_FAILED', 'geht nicht: 100 %', {
      metadata: { version: '7' },
      violations: [{ field: 'alias', description: 'is not deployable' }],
    })
    const { address } = await serveEcho({ echo: () => Promise.reject(failure) }, hot)
    const error = ConnectError.from(
      await foreign(address)
        .echo({})
        .catch((caught: unknown) => caught),
    )
    expect(error).toMatchObject({ code: ConnectCode.FailedPrecondition, rawMessage: 'geht nicht: 100 %' })
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([
      { reason: 'GATE_FAILED', domain: 'slipway', metadata: { version: '7' } },
    ])
    expect(error.findDetails(BadRequestSchema)).toMatchObject([
      { fieldViolations: [{ field: 'alias', description: 'is not deployable' }] },
    ])
  })

  it('may compress what it sends, and gives up at its deadline', async () => {
    const { address } = await serveEcho({ ...echoHandlers, collect: () => new Promise(() => {}) }, hot)
    const { compressionGzip } = await import('@connectrpc/connect-node')
    const client = foreign(address, { sendCompression: compressionGzip, acceptCompression: [compressionGzip] })
    const text = 'compress me '.repeat(10_000)
    expect((await client.echo({ text })).text).toBe(text)
    await expect(client.collect(texts(), { timeoutMs: 50 })).rejects.toMatchObject({
      code: ConnectCode.DeadlineExceeded,
    })
  })
})

describe('a foreign server', () => {
  async function foreignServer(): Promise<string> {
    const adapter = connectNodeAdapter({
      routes(router) {
        router.service(EchoService, {
          echo: ({ text }) => {
            if (text === 'fail') throw new ConnectError('nö: 100 %', ConnectCode.NotFound)
            return { text }
          },
          async *count({ count, text }) {
            for (let index = 0; index < count; index++) yield { text, index }
          },
          async collect(requests) {
            return { text: (await all(requests)).map(({ text }) => text).join('') }
          },
          async *chat(requests) {
            for await (const { text } of requests) yield { text }
          },
        })
      },
    })
    const server: Http2Server = createHttp2Server(adapter)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void server.close())
    const bound = server.address()
    return `127.0.0.1:${typeof bound === 'object' ? bound?.port : ''}`
  }

  it('answers the typed client in all four kinds', async () => {
    const client = createClient(EchoService, { address: await foreignServer() })
    onTestFinished(() => client.close())
    expect(await client.echo({ text: 'a' })).toMatchObject({ text: 'a' })
    expect((await all(client.count({ count: 3, text: 'b' }))).map(({ index }) => index)).toEqual([0, 1, 2])
    expect(await client.collect(texts('c', 'd'))).toMatchObject({ text: 'cd' })
    expect((await all(client.chat(texts('e', 'f')))).map(({ text }) => text)).toEqual(['e', 'f'])
    await expect(client.echo({ text: 'fail' })).rejects.toMatchObject({
      code: Code.NOT_FOUND,
      reason: 'NOT_FOUND',
      message: 'nö: 100 %',
    })
  })

  it('answers the raw channel', async () => {
    const channel = openRawChannel({ address: await foreignServer() })
    onTestFinished(() => channel.close())
    const { echo } = EchoService.method
    expect((await channel.callUnary(echo, Buffer.from('0a0161', 'hex'))).toString('hex')).toBe('0a0161')
    await expect(channel.callUnary(echo, Buffer.from('0a046661696c', 'hex'))).rejects.toMatchObject({
      code: Code.NOT_FOUND,
      message: 'nö: 100 %',
    })
    const missing = { ...echo, name: 'Missing' }
    await expect(channel.callUnary(missing, Buffer.alloc(0))).rejects.toMatchObject({ code: Code.UNIMPLEMENTED })
  })
})
