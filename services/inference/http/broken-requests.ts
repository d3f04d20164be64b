import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'

const statusByCode = new Map([
  ['HPE_HEADER_OVERFLOW', 431],
  ['HPE_CHUNK_EXTENSIONS_OVERFLOW', 413],
  ['ERR_HTTP_REQUEST_TIMEOUT', 408],
])
const texts = new Map([
  [400, 'this is not an HTTP request'],
  [408, 'the request took too long to arrive'],
  [413, 'the extensions of the chunks are too long'],
  [431, 'the header of the request is too large'],
])

/** Answers what is no request, or does not become one in time, and closes its connection. */
export function answerBrokenRequests(server: Server): void {
  const current = new WeakMap<Duplex, IncomingMessage>()
  const follow = (request: IncomingMessage, response: ServerResponse) => {
    current.set(request.socket, request)
    response.on('close', () => {
      if (current.get(request.socket) === request) current.delete(request.socket)
    })
  }
  server.on('request', follow)
  server.on('checkContinue', follow)
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) => {
    // Behind a request that is being answered there is no place for another answer.
    if (current.get(socket)?.complete || !socket.writable || error.code === 'ECONNRESET') {
      socket.destroy()
      return
    }
    const status = statusByCode.get(error.code ?? '') ?? 400
    const body = JSON.stringify({ error: texts.get(status), reason: 'MALFORMED_REQUEST' })
    const head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Type: application/json`
    socket.end(`${head}\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
  })
}
