import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { type RequestOptions, request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { identityModel } from '@slipway/onnx'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { serveHttp } from './http-server.fixture.ts'

const hasOpenssl = spawnSync('openssl', ['version']).status === 0
let directory: string
const pem = (name: string): Buffer => readFileSync(join(directory, name))
const names = ['server', 'stranger'] as const

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'slipway-https-'))
  for (const name of hasOpenssl ? names : []) {
    const files = ['-newkey', 'rsa:2048', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.pem`]
    const subject = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1']
    execFileSync('openssl', ['req', '-x509', ...files, '-days', '2', ...subject], { cwd: directory, stdio: 'ignore' })
  }
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

function ask(url: string, options: RequestOptions): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const sent = request(url.replace('http:', 'https:'), options, (response) => {
      response.resume().on('end', () => resolve(response.statusCode))
    })
    sent.on('error', reject)
    sent.end()
  })
}

test.skipIf(!hasOpenssl && process.env.REQUIRE_BACKENDS !== '1')(
  'with TLS plain text is not spoken, and with an authority callers must show a certificate that it signed',
  async () => {
    const shown = { certificate: pem('server.pem'), key: pem('server.key') }
    const trust = { ca: pem('server.pem'), agent: false as const }
    const models = [{ model: 'm', bytes: identityModel('FP32') }]
    const open = await serveHttp(models, { tls: shown })
    expect(await ask(`${open.url}/v2`, trust)).toBe(200)
    await expect(ask(`${open.url}/v2`, { agent: false })).rejects.toThrow()
    await expect(fetch(`${open.url}/v2`)).rejects.toThrow()
    await open.stop()
    const mutual = await serveHttp(models, { tls: { ...shown, clientAuthorities: pem('server.pem') } })
    const known = { ...trust, cert: pem('server.pem'), key: pem('server.key') }
    expect(await ask(`${mutual.url}/v2`, known)).toBe(200)
    await expect(ask(`${mutual.url}/v2`, trust)).rejects.toThrow()
    const stranger = { ...trust, cert: pem('stranger.pem'), key: pem('stranger.key') }
    await expect(ask(`${mutual.url}/v2`, stranger)).rejects.toThrow()
    await mutual.stop()
  },
)
