import { connect, constants } from 'node:http2'
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

describe.each([
  ['grpc-js', {}],
  ['the lean path', allHot],
])('a connection on %s', (_transport, hot) => {
  it('stays when thousands of its calls are given up at their deadlines', async () => {
    const { address } = await serveEcho(echoHandlers, hot)
    expect(await giveUp(address, 4000)).toEqual({ resets: 4000, isClosed: false })
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
