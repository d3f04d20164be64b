import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EchoService } from '@slipway/proto/slipway/testing/v1/echo'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { createClient } from './client.ts'
import { Code } from './code.ts'
import { all, allHot, echoHandlers, texts } from './echo.fixture.ts'
import { implement } from './implementation.ts'
import { openRawChannel } from './raw-client.ts'
import { createServer } from './server.ts'
import { type ClientTls, isLoopback, readTlsFiles, type ServerTls } from './tls.ts'

let directory: string
const path = (name: string): string => join(directory, name)
const pem = (name: string): Buffer => readFileSync(path(name))

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { cwd: directory, stdio: 'ignore' })
}

/** A key and a certificate for `localhost` and loopback, signed by an authority of the same directory. */
function issue(name: string, authority: string): void {
  const subject = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
  openssl('req', '-newkey', 'ec:params.pem', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.csr`, ...subject)
  const signer = [
    '-CA',
    `${authority}.pem`,
    '-CAkey',
    `${authority}.key`,
    '-CAcreateserial',
    '-copy_extensions',
    'copy',
  ]
  openssl('x509', '-req', '-in', `${name}.csr`, ...signer, '-days', '2', '-out', `${name}.pem`)
}

const hasOpenssl = spawnSync('openssl', ['version']).status === 0

beforeAll(() => {
  if (!hasOpenssl) return
  directory = mkdtempSync(join(tmpdir(), 'slipway-tls-'))
  openssl('ecparam', '-name', 'prime256v1', '-out', 'params.pem')
  for (const authority of ['authority', 'stranger']) {
    const files = ['-keyout', `${authority}.key`, '-out', `${authority}.pem`]
    openssl('req', '-x509', '-newkey', 'ec:params.pem', '-nodes', ...files, '-days', '2', '-subj', `/CN=${authority}`)
  }
  issue('server', 'authority')
  issue('client', 'authority')
  issue('intruder', 'stranger')
})
afterAll(() => {
  if (hasOpenssl) rmSync(directory, { recursive: true, force: true })
})

async function serve(tls: ServerTls, hot: object) {
  const server = createServer({
    implementations: [implement(EchoService, echoHandlers, hot)],
    listen: { host: '127.0.0.1', port: 0 },
    tls,
  })
  const { address } = await server.start()
  onTestFinished(() => server.drain({ graceMs: 0 }))
  return address
}

function connect(address: string, tls?: ClientTls) {
  const client = createClient(EchoService, { address, tls, retry: { maxAttempts: 1 } })
  onTestFinished(() => client.close())
  return client
}

// Node.js cannot issue certificates: where there is no openssl these are skipped, unless the backends are required.
describe.skipIf(!hasOpenssl && process.env.REQUIRE_BACKENDS !== '1').each([
  ['grpc-js', {}],
  ['the lean path', allHot],
])('TLS on %s', (_transport, hot) => {
  const shown = () => ({ certificate: pem('server.pem'), key: pem('server.key') })

  it('carries all four kinds of call, and raw ones', async () => {
    const address = await serve(shown(), hot)
    const tls = { authorities: pem('authority.pem') }
    const client = connect(address, tls)
    expect(await client.echo({ text: 'a' })).toMatchObject({ text: 'a' })
    expect(await all(client.count({ count: 2 }))).toHaveLength(2)
    expect(await client.collect(texts('b', 'c'))).toMatchObject({ text: 'bc' })
    expect(await all(client.chat(texts('d')))).toHaveLength(1)
    const channel = openRawChannel({ address, tls })
    onTestFinished(() => channel.close())
    expect(await channel.callUnary(EchoService.method.echo, Buffer.alloc(0))).toHaveLength(0)
  })

  it('is refused by a client that does not trust the server, and refuses one in plain text', async () => {
    const address = await serve(shown(), hot)
    const failed = { code: Code.UNAVAILABLE }
    await expect(connect(address, { authorities: pem('stranger.pem') }).echo({})).rejects.toMatchObject(failed)
    await expect(connect(address).echo({}, { timeoutMs: 2000 })).rejects.toThrow()
    const channel = openRawChannel({ address, tls: { authorities: pem('stranger.pem') } })
    onTestFinished(() => channel.close())
    await expect(channel.callUnary(EchoService.method.echo, Buffer.alloc(0))).rejects.toMatchObject(failed)
  })

  it('asks every caller for a certificate that its authority signed (mTLS)', async () => {
    const authorities = pem('authority.pem')
    const address = await serve({ ...shown(), clientAuthorities: authorities }, hot)
    const known = { authorities, certificate: pem('client.pem'), key: pem('client.key') }
    expect(await connect(address, known).echo({ text: 'known' })).toMatchObject({ text: 'known' })
    expect(await all(connect(address, known).chat(texts('known')))).toHaveLength(1)
    const intruder = { authorities, certificate: pem('intruder.pem'), key: pem('intruder.key') }
    for (const tls of [intruder, { authorities }]) {
      await expect(connect(address, tls).echo({})).rejects.toMatchObject({ code: Code.UNAVAILABLE })
      await expect(all(connect(address, tls).chat(texts('x')))).rejects.toMatchObject({ code: Code.UNAVAILABLE })
    }
  })

  it('reads its files', async () => {
    const files = { certificate: path('server.pem'), key: path('server.key'), authorities: path('authority.pem') }
    const { server, client } = readTlsFiles(files)
    const address = await serve(server, hot)
    expect(await connect(address, client).echo({ text: 'files' })).toMatchObject({ text: 'files' })
    expect(readTlsFiles({ certificate: path('server.pem'), key: path('server.key') }).client).toEqual({})
    expect(() => readTlsFiles({ certificate: path('missing.pem'), key: path('server.key') })).toThrow('missing.pem')
  })
})

it('knows which hosts only this machine can reach', () => {
  const hosts = ['127.0.0.1', '127.9.9.9', '::1', 'localhost', '0.0.0.0', '::', '10.0.0.1', 'localhost.example.com']
  expect(hosts.map(isLoopback)).toEqual([true, true, true, true, false, false, false, false])
})
