import { EchoService } from '@slipway/proto/slipway/testing/v1/echo'
import { afterEach, describe, expect, it } from 'vitest'
import { createClient } from './client.ts'
import { Code } from './code.ts'
import { Failure } from './failure.ts'
import { type Handlers, implement } from './implementation.ts'
import { createServer, type ServerOptions } from './server.ts'

const echo: Handlers<typeof EchoService> = {
  echo: async ({ text }) => ({ text }),
  async *count({ count, text }) {
    for (let index = 0; index < count; index++) yield { text, index }
  },
  async collect(requests) {
    let text = ''
    for await (const request of requests) text += request.text
    return { text }
  },
  async *chat(requests) {
    let index = 0
    for await (const { text } of requests) yield { text, index: index++ }
  },
}

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function serve(handlers: Partial<Handlers<typeof EchoService>>, options: Partial<ServerOptions> = {}) {
  const server = createServer({
    implementations: [implement(EchoService, handlers)],
    listen: { host: '127.0.0.1', port: 0 },
    ...options,
  })
  const { address } = await server.start()
  closing.push(() => server.drain({ graceMs: 0 }))
  const client = createClient(EchoService, { address })
  closing.push(() => client.close())
  return { server, client, address }
}

async function all<T>(messages: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const message of messages) found.push(message)
  return found
}

async function* texts(...lines: string[]) {
  for (const text of lines) yield { text }
}

describe('typed calls', () => {
  it('answers all four kinds', async () => {
    const { client } = await serve(echo)
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

  it('brings a failure to the caller with all its details', async () => {
    const failure = new Failure(Code.ABORTED, 'ETAG_STALE', 'someone was faster: 50 % ✓', {
      metadata: { model: 'models/flights' },
      violations: [{ field: 'etag', description: 'is stale' }],
      retryAfterMs: 1250,
    })
    const { client } = await serve({ echo: () => Promise.reject(failure) })
    const caught = await client.echo({}).catch((error: unknown) => error)
    expect(caught).toBeInstanceOf(Failure)
    expect(caught).toMatchObject({
      code: Code.ABORTED,
      reason: 'ETAG_STALE',
      message: 'someone was faster: 50 % ✓',
      metadata: { model: 'models/flights' },
      violations: [{ field: 'etag', description: 'is stale' }],
      retryAfterMs: 1250,
    })
  })

  it('answers an opaque INTERNAL for anything else, and tells onError the cause', async () => {
    const heard: Failure[] = []
    const { client } = await serve(
      {
        echo: () => Promise.reject(new Error('secret')),
        count: () => {
          throw new TypeError('secret')
        },
      },
      { onError: (failure) => heard.push(failure) },
    )
    await expect(client.echo({})).rejects.toMatchObject({ code: Code.INTERNAL, message: 'internal error' })
    await expect(all(client.count({}))).rejects.toMatchObject({
      code: Code.INTERNAL,
      message: 'internal error',
    })
    expect(heard.map(({ cause }) => cause)).toEqual([new Error('secret'), new TypeError('secret')])
  })

  it('does not call the handler with a request that breaks a rule', async () => {
    let called = false
    const { client } = await serve({
      echo: async () => {
        called = true
        return {}
      },
    })
    await expect(client.echo({ limited: 11 })).rejects.toMatchObject({
      code: Code.INVALID_ARGUMENT,
      violations: [{ field: 'limited' }],
    })
    expect(called).toBe(false)
  })
})
