import { once } from 'node:events'
import { Agent, request as httpRequest } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { deflateSync, gunzipSync, gzipSync, inflateSync } from 'node:zlib'
import { identityModel } from '@slipway/onnx'
import { Failure } from '@slipway/rpc'
import { afterEach, describe, expect, test } from 'vitest'
import { holdModel } from './held-model.fixture.ts'
import { eventually, type HttpServeOptions, type HttpTestServer, serveHttp } from './http-server.fixture.ts'
import type { HttpLimits } from './limits.ts'
import { createHttpServer } from './server.ts'

let server: HttpTestServer
afterEach(() => server.stop())

const open = async (limits: Partial<HttpLimits> = {}, change: HttpServeOptions = {}): Promise<void> => {
  server = await serveHttp([{ model: 'm', bytes: identityModel('FP32') }], { limits, ...change })
}
const inferPath = '/v2/models/m/infer'
const request = (values: readonly number[], more: object = {}) => ({
  inputs: [{ name: 'input', datatype: 'FP32', shape: [values.length], data: values }],
  ...more,
})

/** A connection that sends what it is told, and all that came back. */
async function dial(): Promise<{ readonly socket: Socket; received(): string }> {
  const { port } = new URL(server.url)
  const socket = connect(Number(port), '127.0.0.1')
  await once(socket, 'connect')
  let text = ''
  socket.on('data', (bytes) => {
    text += bytes
  })
  socket.on('error', () => undefined)
  return { socket, received: () => text }
}

const head = (path: string, body: string, more = '') =>
  `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${more}\r\n`

describe('compression', () => {
  test.each([
    ['gzip', gzipSync],
    ['deflate', deflateSync],
  ] as const)('a body may come as %s', async (encoding, encode) => {
    await open()
    const body = encode(JSON.stringify(request([1, 2])))
    expect(await server.post(inferPath, body, { 'Content-Encoding': encoding })).toMatchObject({ status: 200 })
    expect(await server.post(inferPath, body.subarray(0, 20), { 'Content-Encoding': encoding })).toMatchObject({
      status: 400,
    })
    expect(await server.post(inferPath, 'plain', { 'Content-Encoding': encoding })).toMatchObject({ status: 400 })
  })

  test('an encoding that nobody knows is 415', async () => {
    await open()
    expect(await server.post(inferPath, request([1]), { 'Content-Encoding': 'br' })).toMatchObject({ status: 415 })
  })

  test('a small body that would be a large one is refused before it is', async () => {
    await open({ maxRequestBytes: 100_000 })
    const bomb = gzipSync(Buffer.alloc(50_000_000))
    expect(bomb.length).toBeLessThan(100_000)
    const answer = await server.post(inferPath, bomb, { 'Content-Encoding': 'gzip' })
    expect(answer).toMatchObject({ status: 413, json: { reason: 'REQUEST_TOO_LARGE' } })
  })

  test('an answer is compressed as its caller wants it, when it is worth it', async () => {
    await open()
    const ask = (values: readonly number[], accepted: string) =>
      new Promise<{ encoding: string | undefined; body: Buffer }>((resolve, reject) => {
        const headers = { 'Accept-Encoding': accepted }
        const sent = httpRequest(`${server.url}${inferPath}`, { method: 'POST', headers }, (response) => {
          const chunks: Buffer[] = []
          response.on('data', (chunk) => chunks.push(chunk))
          response.on('end', () =>
            resolve({ encoding: response.headers['content-encoding'], body: Buffer.concat(chunks) }),
          )
        })
        sent.on('error', reject)
        sent.end(JSON.stringify(request(values)))
      })
    const many = Array.from({ length: 2000 }, (_, index) => index)
    const plain = await ask(many, 'identity')
    expect([plain.encoding, JSON.parse(String(plain.body)).outputs[0].data]).toEqual([undefined, many])
    const zipped = await ask(many, 'br, gzip;q=0.8, deflate;q=0.1')
    expect([zipped.encoding, gunzipSync(zipped.body)]).toEqual(['gzip', plain.body])
    const deflated = await ask(many, 'deflate')
    expect([deflated.encoding, inflateSync(deflated.body)]).toEqual(['deflate', plain.body])
    expect((await ask(many, 'gzip;q=0, br')).encoding).toBeUndefined()
    expect((await ask(many, '*')).encoding).toBe('gzip')
    expect((await ask([1], 'gzip')).encoding).toBeUndefined()
  })
})

describe('a caller', () => {
  test('who goes away is not computed for', async () => {
    await open()
    const held = holdModel(server.grpc.models, 'held')
    const gone = new AbortController()
    const body = JSON.stringify(request([1]))
    const call = fetch(`${server.url}/v2/models/held/infer`, { method: 'POST', body, signal: gone.signal })
    await eventually(() => held.offered.length).toBe(1)
    expect(held.offered[0]?.isCancelled).toBe(false)
    gone.abort()
    await expect(call).rejects.toThrow()
    await eventually(() => held.offered[0]?.isCancelled).toBe(true)
    expect(server.errors).toEqual([])
  })

  test('who waits no longer than its timeout is told so then, and not computed for', async () => {
    await open()
    const held = holdModel(server.grpc.models, 'held')
    const answer = await server.post('/v2/models/held/infer', request([1], { parameters: { timeout: 20_000 } }))
    expect(answer).toMatchObject({
      status: 504,
      json: { reason: 'DEADLINE_EXCEEDED', error: expect.stringContaining("'held'") },
    })
    expect(held.offered[0]?.isCancelled).toBe(true)
    held.release()
  })

  test('is refused with the time after which to try again when the queue is full', async () => {
    await open()
    const held = holdModel(server.grpc.models, 'held')
    const call = server.post('/v2/models/held/infer', request([1]))
    await eventually(() => held.offered.length).toBe(1)
    held.offered[0]?.fail(new Failure(8, 'QUEUE_FULL', 'Exceeds maximum queue size', { retryAfterMs: 1500 }))
    const answer = await call
    expect(answer).toMatchObject({ status: 429, json: { reason: 'QUEUE_FULL', retry_after_ms: 1500 } })
    expect(answer.headers.get('retry-after')).toBe('2')
  })

  test('sees nothing of a fault of the server, which is reported', async () => {
    await open()
    const held = holdModel(server.grpc.models, 'held')
    const call = server.post('/v2/models/held/infer', request([1]))
    await eventually(() => held.offered.length).toBe(1)
    held.offered[0]?.fail(Failure.from(new Error('a secret')))
    expect(await call).toMatchObject({ status: 500, text: '{"error":"internal error","reason":"INTERNAL"}' })
    expect(server.errors).toMatchObject([{ cause: { message: 'a secret' } }])
  })

  test('keeps its connection over answers, refusals and questions', async () => {
    await open()
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    const ports = new Set<number>()
    const ask = (path: string, body?: string) =>
      new Promise<number>((resolve, reject) => {
        const sent = httpRequest(
          `${server.url}${path}`,
          { agent, method: body === undefined ? 'GET' : 'POST' },
          (response) => {
            ports.add((response.socket.address() as AddressInfo).port)
            response.resume().on('end', () => resolve(response.statusCode ?? 0))
          },
        )
        sent.on('error', reject)
        sent.end(body)
      })
    const good = JSON.stringify(request([1]))
    const statuses = [
      await ask('/v2'),
      await ask(inferPath, good),
      await ask('/nope'),
      await ask('/nope', good),
      await ask(inferPath, '{'),
      await ask(inferPath),
      await ask(inferPath, good),
    ]
    expect(statuses).toEqual([200, 200, 404, 404, 400, 405, 200])
    expect(ports.size).toBe(1)
    agent.destroy()
  })

  test('may send several requests at once on one connection, and gets the answers in their order', async () => {
    await open()
    const { socket, received } = await dial()
    const bodies = [1, 2, 3].map((value) => JSON.stringify(request([value], { id: `r${value}` })))
    socket.write(bodies.map((body) => head(inferPath, body) + body).join(''))
    await eventually(() => received().match(/"id":"r\d"/g)).toEqual(['"id":"r1"', '"id":"r2"', '"id":"r3"'])
    socket.destroy()
  })

  test('that waits to be asked for its body is asked, unless it is too large', async () => {
    await open({ maxRequestBytes: 1000 })
    const body = JSON.stringify(request([1]))
    const { socket, received } = await dial()
    socket.write(head(inferPath, body, 'Expect: 100-continue\r\n'))
    await eventually(received).toContain('100 Continue')
    socket.write(body)
    await eventually(received).toContain('200 OK')
    socket.destroy()
    const other = await dial()
    other.socket.write(head(inferPath, 'x'.repeat(100_000_000), 'Expect: 100-continue\r\n'))
    await eventually(other.received).toContain('413 Payload Too Large')
    expect(other.received()).not.toContain('100 Continue')
    other.socket.destroy()
  })
})

describe('what is no request', () => {
  test.each([
    ['is told so', 'hello\r\n\r\n', '400 Bad Request'],
    ['with an enormous header is told so', `GET /v2 HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, '431'],
    [
      'with two lengths is told so',
      'POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
      '400',
    ],
    [
      'with a length and chunks is told so',
      'POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
      '400',
    ],
  ])('%s', async (_title, text, status) => {
    await open()
    const { socket, received } = await dial()
    const closed = once(socket, 'close')
    socket.write(text)
    await closed
    expect(received()).toContain(`HTTP/1.1 ${status}`)
    expect(JSON.parse(received().split('\r\n\r\n')[1] ?? '')).toMatchObject({ error: expect.any(String) })
  })

  test.each([
    ['a body', `POST ${inferPath} HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"inputs"`],
    ['a header', `POST ${inferPath} HTTP/1.1\r\nHost: x`],
  ])('because it does not send on with %s is given up', async (_title, text) => {
    await open({ requestTimeoutMs: 100, headerTimeoutMs: 100 })
    const { socket, received } = await dial()
    const closed = once(socket, 'close')
    socket.write(text)
    await closed
    expect(received()).toContain('HTTP/1.1 408')
    expect(server.errors).toEqual([])
  })
})

test('bodies of all requests together are bounded, and room that was left is there again', async () => {
  await open({ maxHeldBytes: 3000 })
  const held = holdModel(server.grpc.models, 'held')
  const large = request([1], { note: 'x'.repeat(2000) })
  const first = server.post('/v2/models/held/infer', large)
  await eventually(() => held.offered.length).toBe(1)
  const second = await server.post('/v2/models/held/infer', large)
  expect(second).toMatchObject({ status: 429, json: { reason: 'TOO_MANY_BODIES' } })
  held.release()
  expect(await first).toMatchObject({ status: 200 })
  await eventually(async () => (await server.post(inferPath, large)).status).toBe(200)
})

test('a question has no use for a large body', async () => {
  await open()
  const answer = await server.post('/v2/repository/index', { ready: true, padding: 'x'.repeat(300_000) })
  expect(answer).toMatchObject({ status: 413, json: { reason: 'REQUEST_TOO_LARGE' } })
  expect(await server.post('/v2/repository/index', { ready: true })).toMatchObject({ status: 200 })
})

test('an answer that is too large for JSON says so, and comes as binary data', async () => {
  await open({ maxJsonBytes: 4000 })
  const values = Array.from({ length: 1200 }, () => 1)
  const refused = await server.post(inferPath, request(values))
  expect(refused).toMatchObject({
    status: 400,
    json: { field: 'outputs', error: expect.stringContaining('binary_data') },
  })
  const answer = await server.post(inferPath, request(values, { parameters: { binary_data_output: true } }))
  expect(answer).toMatchObject({ status: 200 })
})

/** A caller who was sent more than the system takes off the server's hands, and reads nothing of it for now. */
async function answerUnread(): Promise<{ readonly socket: Socket; readonly bytes: number }> {
  const held = holdModel(server.grpc.models, 'held')
  const socket = connect(Number(new URL(server.url).port), '127.0.0.1').pause()
  socket.on('error', () => undefined)
  const body = JSON.stringify(request([1], { parameters: { binary_data_output: true } }))
  socket.write(head('/v2/models/held/infer', body) + body)
  await eventually(() => held.offered.length).toBe(1)
  const bytes = Buffer.alloc(60_000_000)
  held.offered[0]?.answer([{ dims: [bytes.length / 4], bytes }], { starts: [0], ends: [bytes.length], rows: undefined })
  return { socket, bytes: bytes.length }
}

test('who does not read its answer is cut off after a while', async () => {
  await open({ writeTimeoutMs: 50 })
  const { socket } = await answerUnread()
  await server.http.stop({ graceMs: 60_000 })
  socket.destroy()
})

describe('a server that stops', () => {
  test('refuses connections, finishes what it took, and closes what is idle', async () => {
    await open()
    const held = holdModel(server.grpc.models, 'held')
    const idle = await dial()
    const idleClosed = once(idle.socket, 'close')
    const { socket, received } = await dial()
    const body = JSON.stringify(request([1]))
    socket.write(head('/v2/models/held/infer', body) + body)
    await eventually(() => held.offered.length).toBe(1)
    const stopped = server.http.stop({ graceMs: 60_000 })
    await idleClosed
    await expect(fetch(`${server.url}/v2`)).rejects.toThrow()
    held.release()
    await stopped
    await eventually(received).toContain('200 OK')
    expect(received().toLowerCase()).toContain('connection: close')
  })

  test('answers what was on its way over an open connection, and closes that', async () => {
    await open()
    const { socket, received } = await dial()
    const body = JSON.stringify(request([1]))
    socket.write(head(inferPath, body) + body)
    await eventually(received).toContain('200 OK')
    const stopped = server.http.stop({ graceMs: 60_000 })
    socket.write(head(inferPath, body) + body)
    await once(socket, 'close')
    expect(received().match(/200 OK/g)).toHaveLength(2)
    expect(received().toLowerCase()).toContain('connection: close')
    await stopped
  })

  test('lets who is still reading its answer read on', async () => {
    await open()
    const { socket, bytes } = await answerUnread()
    const stopped = server.http.stop({ graceMs: 60_000 })
    let received = 0
    socket.on('data', (chunk) => {
      received += chunk.length
    })
    await once(socket.resume(), 'close')
    expect(received).toBeGreaterThan(bytes)
    await stopped
  })

  test('tells who is left after the grace, and closes', async () => {
    await open()
    const held = holdModel(server.grpc.models, 'held')
    const call = server.post('/v2/models/held/infer', request([1]))
    await eventually(() => held.offered.length).toBe(1)
    await server.http.stop({ graceMs: 10 })
    expect(await call).toMatchObject({ status: 503, json: { reason: 'STOPPING' } })
    expect(held.offered[0]?.isCancelled).toBe(true)
  })
})

test('plain text is for loopback and meshes', async () => {
  await open()
  const options = {
    models: server.grpc.models,
    inference: { unary: () => {}, stream: () => {} },
    describing: {} as never,
  }
  expect(() => createHttpServer({ ...options, listen: { host: '0.0.0.0', port: 0 } })).toThrow('needs TLS')
  expect(createHttpServer({ ...options, listen: { host: '0.0.0.0', port: 0 }, behindMesh: true })).toBeDefined()
})
