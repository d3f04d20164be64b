import { once } from 'node:events'
import { connect, constants } from 'node:http2'
import { connect as connectSocket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { allHot, echoHandlers, serveEcho } from './echo.fixture.ts'

/** Opens calls on one connection and gives them up, until there were so many or the server closes it. Says how many. */
async function giveUp(
  address: string,
  calls: number,
): Promise<{ readonly resets: number; readonly isClosed: boolean }> {
  const session = connect(`http://${address}`)
  session.on('error', () => {})
  let isClosed = false
  session.on('goaway', () => {
    isClosed = true
  })
  let resets = 0
  while (resets < calls && !isClosed && !session.destroyed) {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/slipway.testing.v1.EchoService/Echo',
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    stream.on('error', () => {})
    await new Promise((resolve) => setImmediate(resolve))
    stream.close(constants.NGHTTP2_CANCEL)
    resets++
  }
  // What the server says to them comes before its answer to this; a session that is over takes no ping.
  await new Promise<void>((resolve) => {
    if (session.destroyed || session.closed || !session.ping(() => resolve())) resolve()
  })
  session.destroy()
  return { resets, isClosed }
}

const type = { data: 0, headers: 1, reset: 3, settings: 4, goAway: 7 } as const
const flag = { ack: 1, endStream: 1, endHeaders: 4 } as const

function frame(kind: number, flags: number, stream: number, payload: Uint8Array = new Uint8Array()): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = kind
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

/** The header block of an echo, without compression. */
function echoHeaders(): Buffer {
  const text = (value: string): Buffer => Buffer.concat([Buffer.from([value.length]), Buffer.from(value)])
  const field = (name: string, value: string): Buffer => Buffer.concat([Buffer.from([0]), text(name), text(value)])
  const path = Buffer.concat([Buffer.from([0x83, 0x86, 0x04]), text('/slipway.testing.v1.EchoService/Echo')])
  return Buffer.concat([
    path,
    field(':authority', 'here'),
    field('content-type', 'application/grpc'),
    field('te', 'trailers'),
  ])
}

/** An echo of nothing on a stream of its own. */
function echo(stream: number): Buffer {
  const headers = frame(type.headers, flag.endHeaders, stream, echoHeaders())
  return Buffer.concat([headers, frame(type.data, flag.endStream, stream, Buffer.alloc(5))])
}

/** Sends so many calls in one piece, most of them given up already, then single ones until one is answered or the connection ends. */
async function giveUpInOnePiece(address: string, calls: number): Promise<'answered' | 'closed'> {
  const { hostname, port } = new URL(`http://${address}`)
  const socket = connectSocket({ host: hostname, port: Number(port) })
  socket.on('error', () => {})
  await once(socket, 'connect')
  // A server holds its caller to its settings when the caller has acknowledged them.
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
  socket.write(Buffer.concat([frame(type.settings, 0, 0), frame(type.settings, flag.ack, 0)]))
  await once(socket, 'data')
  const pieces: Buffer[] = []
  let stream = 1
  for (; stream < 2 * calls; stream += 2) {
    pieces.push(echo(stream))
    if (stream > 60) pieces.push(frame(type.reset, 0, stream - 60, Buffer.from([0, 0, 0, constants.NGHTTP2_CANCEL])))
  }
  socket.write(Buffer.concat(pieces))
  const asking = setInterval(() => {
    stream += 2
    socket.write(echo(stream))
  }, 50)
  try {
    let rest = Buffer.alloc(0)
    for await (const chunk of socket) {
      rest = Buffer.concat([rest, chunk as Buffer])
      while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
        if (rest[3] === type.goAway) return 'closed'
        if (rest[3] === type.headers && rest.readUInt32BE(5) > 2 * calls) return 'answered'
        rest = rest.subarray(9 + rest.readUIntBE(0, 3))
      }
    }
    return 'closed'
  } finally {
    clearInterval(asking)
  }
}

describe.each([
  ['grpc-js', {}],
  ['the lean path', allHot],
])('a connection on %s', (_transport, hot) => {
  it('stays when thousands of its calls are given up at their deadlines', async () => {
    const { address } = await serveEcho(echoHandlers, hot)
    expect(await giveUp(address, 4000)).toEqual({ resets: 4000, isClosed: false })
  })

  it('stays when more come at once than it may carry, all given up already', async () => {
    const { address } = await serveEcho(echoHandlers, { ...hot, limits: { maxConcurrentStreams: 100 } })
    expect(await giveUpInOnePiece(address, 3000)).toBe('answered')
  })

  it('is closed when more are given up than the server allows', async () => {
    const limits = { maxResetBurst: 100, maxResetsPerSecond: 1 }
    const { address, server } = await serveEcho(echoHandlers, { ...hot, limits })
    const { resets, isClosed } = await giveUp(address, 4000)
    expect(isClosed).toBe(true)
    expect(resets).toBeLessThan(4000)
    await server.drain({ graceMs: 0 }) // a connection that is going away does not keep a server from ending
  })
})
