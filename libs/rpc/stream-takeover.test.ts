import { createServer } from 'node:http2'
import { createRequire } from 'node:module'
import { Server } from '@grpc/grpc-js'
import { describe, expect, it } from 'vitest'
import { boundResets, takeStreams } from './stream-takeover.ts'

// The lean path stands on one inner method of grpc-js. When this fails after an update, read what `_setupHandlers` and
// the `stream` listener do now, compare them with `stream-takeover.ts`, and only then correct the expectations.

const inside = (server: Server) =>
  server as unknown as { _setupHandlers: (http2Server: unknown, interceptors: unknown) => void }

describe('grpc-js', () => {
  it('is the version whose insides were read', () => {
    expect(createRequire(import.meta.url)('@grpc/grpc-js/package.json')).toMatchObject({ version: '1.14.7' })
  })

  it('sets up each HTTP/2 server by _setupHandlers(http2Server, interceptors), listening for streams and sessions once', () => {
    const { _setupHandlers } = Server.prototype as unknown as Record<string, (...args: unknown[]) => void>
    expect(_setupHandlers).toBeTypeOf('function')
    expect(_setupHandlers).toHaveLength(2)
    const http2Server = createServer()
    _setupHandlers?.call(new Server(), http2Server, [])
    expect(http2Server.listenerCount('stream')).toBe(1)
    expect(http2Server.listenerCount('session')).toBe(1)
    // The listener is bound to the interceptors and takes the stream and its headers.
    expect(http2Server.listeners('stream')[0]).toHaveLength(2)
  })
})

describe('takeStreams', () => {
  it('shows every stream to the taker first, and to grpc-js when it was not taken', () => {
    const server = new Server()
    const passedOn: unknown[] = []
    const original = inside(server)
    original._setupHandlers = (http2Server) => {
      const emitter = http2Server as ReturnType<typeof createServer>
      emitter.on('stream', (stream) => passedOn.push(stream))
    }
    takeStreams(
      server,
      (stream) => (stream as unknown as string) === 'taken',
      () => {},
    )
    const http2Server = createServer()
    inside(server)._setupHandlers(http2Server, [])
    http2Server.emit('stream', 'taken', {})
    http2Server.emit('stream', 'left', {})
    expect(passedOn).toEqual(['left'])
  })

  it.each([
    ['does not listen for streams', () => {}],
    [
      'listens twice',
      (http2Server: unknown) => {
        const emitter = http2Server as ReturnType<typeof createServer>
        emitter.on('stream', () => {}).on('stream', () => {})
      },
    ],
  ])('throws when a server starts and grpc-js %s', (_name, setup) => {
    const server = new Server()
    inside(server)._setupHandlers = setup
    takeStreams(
      server,
      () => false,
      () => {},
    )
    expect(() => inside(server)._setupHandlers(createServer(), [])).toThrow('grpc-js')
  })

  it('throws when grpc-js has no such method', () => {
    const server = Object.create(null) as Server
    const wrap = () =>
      takeStreams(
        server,
        () => false,
        () => {},
      )
    expect(wrap).toThrow('_setupHandlers')
  })
})

describe('boundResets', () => {
  it('writes into what grpc-js makes its HTTP/2 servers with', () => {
    const server = new Server()
    boundResets(server, { burst: 7, perSecond: 5 })
    expect(server).toMatchObject({ commonServerOptions: { streamResetBurst: 7, streamResetRate: 5 } })
  })

  it('throws when grpc-js has no such thing', () => {
    const server = Object.create(null) as Server
    expect(() => boundResets(server, { burst: 7, perSecond: 5 })).toThrow('commonServerOptions')
  })
})
