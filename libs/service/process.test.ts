import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { type HostProcess, runAsProcess } from './index.ts'

type Child = ChildProcessByStdio<null, Readable, Readable>

function run(env: Readonly<Record<string, string>> = {}): Child {
  const path = fileURLToPath(new URL('./main.fixture.ts', import.meta.url))
  return spawn(process.execPath, [path], { env, stdio: ['ignore', 'pipe', 'pipe'] })
}

/** What it said and how it ended; once it has said a line, it gets signals. */
async function ended(child: Child, after = '', signals: readonly NodeJS.Signals[] = []) {
  let out = ''
  let waiting = signals
  child.stdout.on('data', (chunk) => {
    out += chunk
    if (!out.includes(after)) return
    for (const signal of waiting) child.kill(signal)
    waiting = []
  })
  const [error, [code, signal]] = await Promise.all([text(child.stderr), once(child, 'close')])
  return { out, error, code, signal }
}

const whole = 'starting\nstarted\nstopping\nstopped\n'

test.each(['SIGTERM', 'SIGINT'] as const)(
  '%s stops the service, and only then the process ends with 0',
  async (signal) => {
    expect(await ended(run(), 'started', [signal])).toEqual({ out: whole, error: '', code: 0, signal: null })
  },
)

test('SIGTERM and SIGINT together stop it once', async () => {
  expect(await ended(run(), 'started', ['SIGTERM', 'SIGINT'])).toMatchObject({ out: whole, code: 0 })
})

test('a signal during the start stops the service once it has started', async () => {
  expect(await ended(run(), 'starting', ['SIGTERM'])).toMatchObject({ out: whole, code: 0 })
})

test('a process whose starter is gone stops the service', async () => {
  const path = fileURLToPath(new URL('./main.fixture.ts', import.meta.url))
  const child = spawn(process.execPath, [path], { env: {}, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] })
  const { stdout, stderr } = child
  if (stdout === null || stderr === null) throw new Error('a process without pipes')
  let out = ''
  stdout.on('data', (chunk) => {
    out += chunk
    // What the system does when the process at the other end dies.
    if (out.includes('started') && child.connected) child.disconnect()
  })
  const [error, , exit] = await Promise.all([text(stderr), once(stdout, 'end'), once(child, 'exit')])
  expect({ out, error, exit }).toEqual({ out: whole, error: '', exit: [0, null] })
})

test('settings that are wrong are told on stderr, and the process ends with 2', async () => {
  const end = await ended(run({ SLIPWAY_LISTEN: 'here', SLIPWAY_TLS_CERT: 'a.pem' }))
  expect(end).toMatchObject({ out: '', code: 2 })
  expect(end.error).toContain('SLIPWAY_LISTEN')
  expect(end.error).toContain('SLIPWAY_TLS_KEY')
  expect(end.error).not.toContain('process.ts')
})

test('any other error of the start is a crash with its stack', async () => {
  const end = await ended(run({ SLIPWAY_LISTEN: 'broken:1' }))
  expect(end).toMatchObject({ out: 'starting\n', code: 1 })
  expect(end.error).toContain('no such host')
})

test('a module that is imported starts nothing', async () => {
  const host = { ...process, argv: [process.execPath, '/another/main.ts'] } as HostProcess
  let starts = 0
  await runAsProcess(import.meta.url, host, () => Promise.reject(new Error(`start ${++starts}`)))
  expect(starts).toBe(0)
})
