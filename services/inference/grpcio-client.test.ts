/** The protocol as a client sees it that is not ours: Debian's python3-grpcio, and `buf curl` over reflection. */
import { execFile, spawnSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { buildModel, type Datatype } from '@slipway/onnx'
import { Code } from '@slipway/rpc'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { serve, type TestServer } from './testing.ts'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))
const script = fileURLToPath(new URL('grpcio-client.fixture.py', import.meta.url))
const buf = join(root, 'node_modules', '.bin', 'buf')
const isRequired = process.env.REQUIRE_BACKENDS === '1'

/** A Python that has grpcio: the system's before one that somebody put in front of it. */
const python = ['/usr/bin/python3', 'python3'].find(
  (program) => spawnSync(program, ['-c', 'import grpc, google.protobuf']).status === 0,
)

/** Identities of every shape that the client sends. */
const shapes: Readonly<Record<string, readonly number[]>> = {
  scalar: [],
  vector: [-1],
  matrix: [-1, 3],
  dynamic: [-1, -1, -1],
  fixed: [2, 2],
}

function identities(datatype: Datatype, names: readonly string[]): Uint8Array {
  const tensor = (name: string, suffix = '') => ({ name: `${name}${suffix}`, datatype, shape: shapes[name] ?? [] })
  return buildModel({
    name: 'identities',
    inputs: names.map((name) => tensor(name)),
    outputs: names.map((name) => tensor(name, '_out')),
    nodes: names.map((name) => ({ operator: 'Identity', inputs: [name], outputs: [`${name}_out`] })),
  })
}

async function withModels<T>(datatypes: readonly Datatype[], act: () => Promise<T>): Promise<T> {
  const models = datatypes.flatMap((datatype) => [
    { model: datatype.toLowerCase(), bytes: identities(datatype, Object.keys(shapes)) },
    { model: `${datatype.toLowerCase()}-rows`, bytes: identities(datatype, ['matrix']) },
  ])
  const served = await Promise.all(models.map((model) => server.add(model)))
  try {
    return await act()
  } finally {
    for (const { model, number } of served) server.models.set(model, number, undefined)
    await Promise.all(served.map((one) => one.close()))
  }
}

let server: TestServer
let directory: string
beforeAll(async () => {
  server = await serve([])
  directory = await mkdtemp(join(tmpdir(), 'slipway-grpcio-'))
})
afterAll(async () => {
  await server.stop()
  await rm(directory, { recursive: true, force: true })
})

describe.skipIf(python === undefined && !isRequired)(
  'grpcio (needs Debian packages python3-grpcio, python3-protobuf)',
  () => {
    let descriptors: string
    beforeAll(async () => {
      expect(python, 'tools/backends/install.sh installs python3-grpcio').toBeDefined()
      descriptors = join(directory, 'descriptors.binpb')
      const paths = ['proto/inference', 'proto/grpc/health'].flatMap((path) => ['--path', path])
      await run(buf, ['build', ...paths, '--output', descriptors], { cwd: root })
    })

    async function check(...part: string[]): Promise<number> {
      const { stdout } = await run(python ?? 'python3', [script, server.address, descriptors, ...part])
      const { checked, failures } = JSON.parse(stdout) as { checked: number; failures: string[] }
      expect(failures).toEqual([])
      return checked
    }

    test.each<Datatype>([
      'BOOL',
      'UINT8',
      'UINT16',
      'UINT32',
      'UINT64',
      'INT8',
      'INT16',
      'INT32',
      'INT64',
      'FP16',
      'FP32',
      'FP64',
      'BYTES',
    ])('%s of every shape comes back as it went, raw and typed', async (datatype) => {
      await withModels([datatype], async () => {
        expect(await check('matrix', datatype)).toBe(datatype === 'FP16' ? 30 : 66)
      })
    })

    test.each(['requests', 'stream', 'descriptions'])('%s', async (part) => {
      await withModels(['FP32', 'INT8', 'BOOL', 'BYTES'], async () => {
        expect(await check(part)).toBeGreaterThan(5)
      })
    })
  },
)

describe('buf curl over reflection', () => {
  async function curl(method: string, request: object) {
    const url = `http://${server.address}/inference.GRPCInferenceService/${method}`
    const options = ['curl', '--protocol', 'grpc', '--http2-prior-knowledge', '--data', JSON.stringify(request), url]
    const { stdout } = await run(buf, options, { cwd: directory })
    return JSON.parse(stdout)
  }
  const ask = (datatype: string, contents: object) =>
    curl('ModelInfer', {
      modelName: `${datatype.toLowerCase()}-rows`,
      id: 'a',
      inputs: [{ name: 'matrix', datatype, shape: [1, 3], contents }],
    })

  test('asks in typed JSON and gets raw answers', async () => {
    await withModels(['INT64', 'BYTES'], async () => {
      const numbers = await ask('INT64', { int64Contents: ['1', '-1', '9223372036854775807'] })
      expect(numbers).toMatchObject({ modelVersion: '1', id: 'a', outputs: [{ datatype: 'INT64', shape: ['1', '3'] }] })
      expect(Buffer.from(numbers.rawOutputContents[0], 'base64').readBigInt64LE(16)).toBe(2n ** 63n - 1n)
      const texts = await ask('BYTES', { bytesContents: ['', 'YQ==', 'Yg=='] })
      expect(Buffer.from(texts.rawOutputContents[0], 'base64').toString('latin1')).toBe(
        '\0\0\0\0\u0001\0\0\0a\u0001\0\0\0b',
      )
      const { config } = await curl('ModelConfig', { name: 'bytes-rows' })
      expect(config.input).toEqual([{ name: 'matrix', dataType: 'TYPE_STRING', dims: ['3'] }])
    })
  })

  test('is told what is wrong, with the field', async () => {
    await withModels(['INT8'], async () => {
      await expect(ask('INT8', { intContents: [1, 300, 1] })).rejects.toMatchObject({
        stderr: expect.stringMatching(/invalid_argument[\s\S]*300 of input 'matrix' does not fit INT8/),
      })
    })
  })
})

test('a model in BF16 is refused with a clear text when it is loaded', async () => {
  const load = server.add({ model: 'bf16', bytes: identities('BF16', ['vector']) })
  await expect(load).rejects.toThrow(/'vector' is BF16, which the runtime cannot carry: cast it/)
  await expect(server.client.modelMetadata({ name: 'bf16' })).rejects.toMatchObject({ code: Code.NOT_FOUND })
})
