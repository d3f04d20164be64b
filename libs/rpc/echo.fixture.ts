import { EchoService } from '@slipway/proto/slipway/testing/v1/echo'
import { onTestFinished } from 'vitest'
import { type Client, type ClientOptions, createClient } from './client.ts'
import { type Handlers, type ImplementOptions, implement } from './implementation.ts'
import { createServer, type RpcServer, type ServerOptions } from './server.ts'

// The echo service on a real server for one test; everything is closed when the test is over.

/** Handlers that do what the proto says. */
export const echoHandlers: Handlers<typeof EchoService> = {
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

/** All methods of the echo service on the lean path. */
export const allHot: ImplementOptions<typeof EchoService> = { hot: ['echo', 'count', 'collect', 'chat'] }

/** What `serveEcho` starts. */
export interface EchoServer {
  readonly server: RpcServer
  readonly address: string
  readonly client: Client<typeof EchoService>
  /** Another client of the same server. */
  connect(options?: Partial<ClientOptions>): Client<typeof EchoService>
}

/** Starts a server with these handlers, and a client of it. */
export async function serveEcho(
  handlers: Partial<Handlers<typeof EchoService>> = echoHandlers,
  options: Partial<ServerOptions> & ImplementOptions<typeof EchoService> = {},
): Promise<EchoServer> {
  const { hot = [], ...serverOptions } = options
  const server = createServer({
    implementations: [implement(EchoService, handlers, { hot })],
    listen: { host: '127.0.0.1', port: 0 },
    ...serverOptions,
  })
  const { address } = await server.start()
  onTestFinished(() => server.drain({ graceMs: 0 }))
  const connect = (clientOptions: Partial<ClientOptions> = {}): Client<typeof EchoService> => {
    const client = createClient(EchoService, { address, ...clientOptions })
    onTestFinished(() => client.close())
    return client
  }
  return { server, address, client: connect(), connect }
}

/** Everything that an iterable yields. */
export async function all<T>(messages: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const message of messages) found.push(message)
  return found
}

/** Requests with these texts. */
export async function* texts(...lines: string[]): AsyncGenerator<{ text: string }> {
  for (const text of lines) yield { text }
}

/** Resolves when this call on the connection behind a client has been answered: everything before it has arrived. */
export async function roundTrip(client: Client<typeof EchoService>): Promise<void> {
  await client.echo({}).catch(() => {})
}
