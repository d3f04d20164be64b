import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, rename, rm, utimes, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { mlpModel } from '@slipway/onnx'
import { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import { createClient } from '@slipway/rpc'
import { afterEach, beforeEach, expect, test } from 'vitest'

const cli = fileURLToPath(new URL('../libs/client/cli.ts', import.meta.url))
const LONG_AGO = new Date(Date.now() - 60_000)

type Child = ChildProcessByStdio<null, Readable, Readable>

/** A model that answers a number of its own, whatever it is asked. */
const model = (answer: number) =>
  mlpModel({ layers: [{ inputs: 2, outputs: 1, weights: [0, 0], bias: [answer] }], sigmoid: false })

let directory: string
let temporary: string
let settings: Readonly<Record<string, string>>
let child: Child | undefined
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'slipway-serve-test-'))
  temporary = await mkdtemp(join(tmpdir(), 'slipway-serve-test-'))
  settings = {}
})
afterEach(async () => {
  if (child?.exitCode === null && child.signalCode === null) {
    child.kill('SIGTERM')
    await once(child, 'exit')
  }
  for (const folder of [directory, temporary]) await rm(folder, { recursive: true, force: true })
})

async function put(path: string, bytes: Uint8Array): Promise<void> {
  const target = join(directory, path)
  await mkdir(dirname(target), { recursive: true })
  await writeFile(`${target}.tmp`, bytes)
  await utimes(`${target}.tmp`, LONG_AGO, LONG_AGO)
  await rename(`${target}.tmp`, target)
}

function serve(grpcPort: number, ...options: readonly string[]): Child {
  const words = ['serve', directory, '--grpc-port', String(grpcPort), '--http-port', '0', ...options]
  child = spawn(process.execPath, [cli, ...words], {
    env: { ...process.env, SLIPWAY_INFERENCE_MODEL_POLL: '50ms', TMPDIR: temporary, ...settings },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return child
}

/** How a command ends that cannot serve. */
async function ended(
  grpcPort: number,
  ...options: readonly string[]
): Promise<{ readonly code: unknown; readonly said: string }> {
  const refused = serve(grpcPort, ...options)
  refused.stdout.resume()
  const [said, [code]] = await Promise.all([text(refused.stderr), once(refused, 'exit')])
  return { code, said }
}

interface Event {
  readonly event: string
  readonly version?: string
  readonly reason?: string
  readonly grpc?: string
  readonly http?: string
}

test('a folder is served over gRPC and HTTP with one command, followed, and drained by Ctrl-C', {
  timeout: 60_000,
}, async () => {
  await put('m/1/model.onnx', model(1))
  const running = serve(0, '--watch', '--json')
  const ending = once(running, 'exit')
  const events = createInterface(running.stdout)[Symbol.asyncIterator]()
  const next = async (kind: string): Promise<Event> => {
    for (;;) {
      const { value, done } = await events.next()
      if (done) throw new Error(`it ended before ${kind}`)
      const event = JSON.parse(value) as Event
      if (event.event === kind) return event
    }
  }
  const { grpc = '', http = '' } = await next('ready')
  const client = createClient(GRPCInferenceService, { address: grpc })
  const answer = await client.modelInfer({
    modelName: 'm',
    inputs: [{ name: 'features', datatype: 'FP32', shape: [1n, 2n] }],
    rawInputContents: [Buffer.alloc(8)],
  })
  expect(Buffer.from(answer.rawOutputContents[0] ?? []).readFloatLE()).toBe(1)
  const body = { inputs: [{ name: 'features', datatype: 'FP32', shape: [1, 2], data: [0, 0] }] }
  const post = await fetch(`http://${http}/v2/models/m/infer`, { method: 'POST', body: JSON.stringify(body) })
  expect(await post.json()).toMatchObject({ model_version: '1', outputs: [{ data: [1] }] })
  await put('m/2/model.onnx', model(2))
  expect(await next('loaded')).toMatchObject({ version: 'm/2' })
  expect(await next('unloaded')).toMatchObject({ version: 'm/1' })
  await put('m/3/model.onnx', Buffer.from('no model'))
  expect(await next('failed')).toMatchObject({ version: 'm/3', reason: expect.stringContaining('failed to load') })
  client.close()
  running.kill('SIGINT')
  await next('stopped')
  expect(await ending).toEqual([0, null])
})

test('the server ends with the command that started it, even when that is killed', { timeout: 60_000 }, async () => {
  await put('m/1/model.onnx', model(1))
  const running = serve(0, '--json')
  const lines = createInterface(running.stdout)[Symbol.asyncIterator]()
  let ready: Event | undefined
  while (ready?.event !== 'ready') {
    const { value } = await lines.next()
    if (value === undefined) throw new Error('the command ended before it was ready')
    ready = JSON.parse(value) as Event
  }
  running.kill('SIGKILL')
  const isThere = () =>
    fetch(`http://${ready.http}/v2/health/live`).then(
      () => true,
      () => false,
    )
  await expect.poll(isThere, { timeout: 30_000 }).toBe(false)
})

test('a folder without a model, and a port that is taken, are told in a line', { timeout: 120_000 }, async () => {
  const empty = {
    code: 1,
    said: expect.stringMatching(/^slipway: .* holds no model, such as my-model\/1\/model.onnx\n$/),
  }
  expect(await ended(0)).toMatchObject(empty)
  await put('m/1/model.onnx', model(1))
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  const { port } = other.address() as { port: number }
  const taken = { code: 1, said: `slipway: 127.0.0.1:${port} is taken: choose another port\n` }
  expect(await ended(port)).toMatchObject(taken)
  other.close()
})

test('wrong settings are told by their names, a host beyond loopback by what it needs, and nothing is left behind', {
  timeout: 120_000,
}, async () => {
  await put('m/1/model.onnx', model(1))
  expect(await ended(0, '--host', '0.0.0.0')).toMatchObject({
    code: 1,
    said: expect.stringMatching(
      /^slipway: SLIPWAY_LISTEN 0\.0\.0\.0 is beyond loopback: it needs SLIPWAY_TLS_CERT and .*\n$/,
    ),
  })
  expect(await ended(0, '--http-port', '99999')).toMatchObject({ code: 2 })
  settings = { SLIPWAY_INFERENCE_THREADS: 'x', SLIPWAY_INFERENCE_IDLE: '5' }
  expect(await ended(0)).toEqual({
    code: 1,
    said: expect.stringMatching(/^slipway: SLIPWAY_INFERENCE_THREADS must .*; SLIPWAY_INFERENCE_IDLE must .*\n$/),
  })
  expect(await readdir(temporary)).toEqual([])
})
