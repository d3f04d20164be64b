import { spawn } from 'node:child_process'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'

/** What an OTLP collector was sent, by path. */
const received = new Map<string, string>()
const collector = createServer((request, response) => {
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => {
    received.set(request.url ?? '', (received.get(request.url ?? '') ?? '') + Buffer.concat(chunks).toString('latin1'))
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
  })
})

let endpoint: string
beforeAll(async () => {
  await new Promise<void>((resolve) => collector.listen(0, '127.0.0.1', resolve))
  endpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`
})
afterAll(() => new Promise((resolve) => collector.close(resolve)))
beforeEach(() => received.clear())

function runFixture(env: Record<string, string>): Promise<{ out: string; err: string }> {
  const fixture = fileURLToPath(new URL('process.fixture.ts', import.meta.url))
  const child = spawn(process.execPath, [fixture], { env: { PATH: process.env.PATH, ...env } })
  const written = { out: '', err: '' }
  child.stdout.on('data', (chunk) => {
    written.out += chunk
  })
  child.stderr.on('data', (chunk) => {
    written.err += chunk
  })
  return new Promise((resolve) => child.once('close', () => resolve(written)))
}

test('without an exporter the SDK is not even loaded, and log lines go to standard error', async () => {
  const { out, err } = await runFixture({})
  expect(JSON.parse(out)).toEqual({ sdkLoaded: false })
  expect(JSON.parse(err)).toMatchObject({ level: 'info', scope: 'slipway.fixture', message: 'worked' })
  expect(received.size).toBe(0)
})

test('an OTLP endpoint gets traces and metrics of the service, and log lines name the trace', async () => {
  const { out, err } = await runFixture({
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
  })
  expect(JSON.parse(out)).toEqual({ sdkLoaded: true })
  expect([...received.keys()].sort()).toEqual(['/v1/metrics', '/v1/traces'])
  expect(received.get('/v1/traces')).toContain('slipway-fixture')
  expect(received.get('/v1/metrics')).toContain('rpc.server.call.duration')
  expect(received.get('/v1/traces')).toContain(JSON.parse(err).trace_id)
})

test('the standard variables choose signal, name and sampling', async () => {
  await runFixture({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${endpoint}/v1/traces`, OTEL_SERVICE_NAME: 'mine' })
  expect([...received.keys()]).toEqual(['/v1/traces'])
  expect(received.get('/v1/traces')).toContain('mine')
  received.clear()
  await runFixture({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_TRACES_SAMPLER: 'parentbased_always_off' })
  expect([...received.keys()]).toEqual(['/v1/metrics'])
})
