import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mlpModel, randomLayers } from '@slipway/onnx'
import { type CreateVersionRequest, RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { Code, createServer, Failure, implement } from '@slipway/rpc'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runWords } from './cli.fixture.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`
const created: CreateVersionRequest[] = []
const uploaded = new Set<string>()

const server = createServer({
  listen: { host: '127.0.0.1', port: 0 },
  implementations: [
    implement(RegistryService, {
      getVersion: async ({ name }) => {
        if (name !== 'models/score/versions/1') throw new Failure(Code.NOT_FOUND, 'VERSION_NOT_FOUND', 'not there')
        return {
          name,
          digest: DIGEST,
          signature: {
            inputs: [{ name: 'features', datatype: 'FP32', shape: [-1n, 2n] }],
            outputs: [{ name: 'probability', datatype: 'FP32', shape: [-1n, 1n] }],
          },
        }
      },
      getUpload: async () => ({}),
      uploadFile: async (requests) => {
        const hash = createHash('sha256')
        let sizeBytes = 0n
        for await (const { chunk } of requests) {
          hash.update(chunk)
          sizeBytes += BigInt(chunk.length)
        }
        const digest = `sha256:${hash.digest('hex')}`
        uploaded.add(digest)
        return { upload: { digest, receivedBytes: sizeBytes } }
      },
      createVersion: async (request) => {
        created.push(request)
        return { name: 'models/delay/versions/1', digest: DIGEST, files: request.files }
      },
    }),
  ],
})

const step = (source: object) => ({ name: 'score', model: { ...source, inputs: { features: 'input.x' } } })
const pipeline = (source: object, output = 'score.probability') =>
  JSON.stringify({
    inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }],
    steps: [step(source)],
    outputs: [{ name: 'y', tensor: output }],
  })

let address: string
let folder: string
beforeAll(async () => {
  address = (await server.start()).address
  folder = await mkdtemp(join(tmpdir(), 'slipway-cli-'))
  await mkdir(join(folder, 'steps'))
  await writeFile(join(folder, 'steps', 'score.onnx'), mlpModel({ layers: randomLayers([2, 1], 1) }))
  await writeFile(join(folder, 'pipeline.json'), pipeline({ file: 'steps/score.onnx' }))
})
afterAll(async () => {
  await server.drain({ graceMs: 100 })
  await rm(folder, { recursive: true })
})

const slipway = (...words: string[]) => runWords(words, { env: { SLIPWAY_REGISTRY_ADDRESS: address } })

async function check(text: string, ...words: string[]) {
  const file = join(folder, 'other.json')
  await writeFile(file, text)
  return await slipway('pipelines', 'check', file, ...words)
}

test('a pipeline that is right is shown with its steps, its models sought beside it and in the registry', async () => {
  const { code, out } = await slipway('pipelines', 'check', join(folder, 'pipeline.json'))
  expect(code).toBe(0)
  expect(out).toContain('y FP32[-1, 1] = score.probability')
  const pinned = await check(pipeline({ version: { name: 'models/score/versions/1', digest: DIGEST } }), '--json')
  expect(pinned.code).toBe(0)
  expect(JSON.parse(pinned.out)).toMatchObject({
    steps: [{ name: 'score', kind: 'model', after: ['input'] }],
    problems: [],
  })
})

test('every problem is told with its place, and the command fails', async () => {
  const wrong = await check(pipeline({ file: 'steps/score.onnx' }, 'score.late'))
  expect(wrong.code).toBe(1)
  expect(wrong.out).toMatch(/outputs\[0\]\.tensor\s+there is no tensor 'score\.late'/)
  expect(wrong.err).toContain('has a problem')
  const other = `sha256:${'b'.repeat(64)}`
  const digest = await check(pipeline({ version: { name: 'models/score/versions/1', digest: other } }), '--json')
  expect(JSON.parse(digest.out).problems).toEqual([
    { field: 'steps[0].model.version.digest', description: `models/score/versions/1 has the digest ${DIGEST}` },
  ])
  const absent = await check(pipeline({ version: { name: 'models/score/versions/2', digest: other } }))
  expect(absent.out).toContain("step 'score': there is no models/score/versions/2")
  const broken = await check('{')
  expect(broken.out).toContain('is not a slipway.inference.v1.Pipeline in JSON')
})

test('a folder is registered with all its files by their paths in it', async () => {
  const own = await mkdtemp(join(tmpdir(), 'slipway-version-'))
  await mkdir(join(own, 'steps'))
  await writeFile(join(own, 'pipeline.json'), pipeline({ file: 'steps/score.onnx' }))
  await writeFile(join(own, 'steps', 'score.onnx'), 'a model')
  const { code } = await slipway('versions', 'register', 'delay', '--folder', own)
  await rm(own, { recursive: true })
  expect(code).toBe(0)
  const files = created.at(-1)?.files ?? []
  expect(files.map(({ path }) => path)).toEqual(['pipeline.json', 'steps/score.onnx'])
  expect(files.every(({ digest }) => uploaded.has(digest))).toBe(true)
  const { code: usage, err } = await slipway('versions', 'register', 'delay')
  expect(usage).toBe(2)
  expect(err).toContain('--folder')
})
