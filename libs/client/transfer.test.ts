import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { Code, createClient, createServer, Failure, implement } from '@slipway/rpc'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { downloadFile } from './download.ts'
import { uploadFile } from './upload.ts'

const content = randomBytes(1_000_000)
const digestOf = (bytes: Uint8Array) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

/** A registry that keeps files in memory, counts what it was sent, and breaks off when told to. */
function createFakeRegistry() {
  const state = {
    uploads: new Map<string, Buffer>(),
    files: new Map<string, Buffer>(),
    sentBytes: 0,
    breaks: 0,
    corrupt: false,
  }
  const breaksNow = (bytes: number) => {
    if (state.breaks === 0 || bytes < 400_000) return
    state.breaks -= 1
    throw new Failure(Code.UNAVAILABLE, 'BROKEN_OFF', 'the line broke')
  }
  const implementation = implement(RegistryService, {
    getUpload: async ({ uploadId }) => {
      const received = state.uploads.get(uploadId)
      if (received === undefined) throw new Failure(Code.NOT_FOUND, 'UPLOAD_NOT_FOUND', 'no such upload')
      const digest = digestOf(received)
      return { uploadId, receivedBytes: BigInt(received.length), digest: state.files.has(digest) ? digest : '' }
    },
    uploadFile: async (requests) => {
      let [id, digest, inThisCall] = ['', '', 0]
      for await (const request of requests) {
        id = request.uploadId || id
        const before = state.uploads.get(id) ?? Buffer.alloc(0)
        expect(Number(request.offset)).toBe(before.length)
        state.uploads.set(id, Buffer.concat([before, request.chunk]))
        state.sentBytes += request.chunk.length
        inThisCall += request.chunk.length
        breaksNow(inThisCall)
        digest = request.digest
      }
      const received = state.uploads.get(id) ?? Buffer.alloc(0)
      if (digestOf(received) === digest) state.files.set(digest, received)
      return { upload: { uploadId: id, receivedBytes: BigInt(received.length), digest } }
    },
    downloadFile: async function* ({ digest, offset }) {
      const file = state.files.get(digest)
      if (file === undefined) throw new Failure(Code.NOT_FOUND, 'FILE_NOT_FOUND', 'no such file')
      for (let at = Number(offset); at < file.length; at += 100_000) {
        breaksNow(at - Number(offset))
        const chunk = Buffer.from(file.subarray(at, at + 100_000))
        if (state.corrupt) chunk[0] = (chunk[0] ?? 0) ^ 1
        yield { offset: BigInt(at), chunk, sizeBytes: BigInt(file.length) }
      }
    },
  })
  return { state, implementation }
}

let fake: ReturnType<typeof createFakeRegistry>
let server: ReturnType<typeof createServer>
let registry: ReturnType<typeof createClient<typeof RegistryService>>
let directory: string

beforeEach(async () => {
  fake = createFakeRegistry()
  server = createServer({ implementations: [fake.implementation], listen: { host: '127.0.0.1', port: 0 } })
  registry = createClient(RegistryService, { address: (await server.start()).address })
  directory = await mkdtemp(join(tmpdir(), 'slipway-client-'))
})

afterEach(async () => {
  registry.close()
  await server.drain({ graceMs: 100 })
})

test('an upload that breaks off twice sends every byte once', async () => {
  fake.state.breaks = 2
  const path = join(directory, 'model.onnx')
  await writeFile(path, content)
  const progress: number[] = []
  const uploaded = await uploadFile(registry, path, { onProgress: (done) => progress.push(done) })
  expect(uploaded).toEqual({ digest: digestOf(content), sizeBytes: 1_000_000n })
  expect(fake.state.files.get(uploaded.digest)?.equals(content)).toBe(true)
  expect(fake.state.sentBytes).toBe(content.length)
  expect(progress.at(-1)).toBe(content.length)
})

test('what the registry has already is not sent', async () => {
  await uploadFile(registry, content)
  fake.state.sentBytes = 0
  await uploadFile(registry, content)
  expect(fake.state.sentBytes).toBe(0)
})

test('an empty file can be uploaded', async () => {
  expect((await uploadFile(registry, new Uint8Array())).digest).toBe(digestOf(new Uint8Array()))
})

test('a failure other than UNAVAILABLE is not tried again', async () => {
  await server.drain({ graceMs: 0 })
  const refusing = implement(RegistryService, {
    getUpload: async () => {
      throw new Failure(Code.PERMISSION_DENIED, 'NOT_YOURS', 'not yours')
    },
  })
  server = createServer({ implementations: [refusing], listen: { host: '127.0.0.1', port: 0 } })
  registry = createClient(RegistryService, { address: (await server.start()).address })
  await expect(uploadFile(registry, content)).rejects.toMatchObject({
    code: Code.PERMISSION_DENIED,
    reason: 'NOT_YOURS',
  })
})

test('a download that breaks off continues, also after the process died, and leaves no part behind', async () => {
  fake.state.files.set(digestOf(content), content)
  const path = join(directory, 'deep', 'model.onnx')
  fake.state.breaks = 1
  await downloadFile(registry, digestOf(content), path)
  expect((await readFile(path)).equals(content)).toBe(true)

  const second = join(directory, 'deep', 'second.onnx')
  await writeFile(`${second}.part`, content.subarray(0, 250_000))
  const progress: number[] = []
  await downloadFile(registry, digestOf(content), second, { onProgress: (done) => progress.push(done) })
  expect(progress[0]).toBe(350_000)
  expect((await readFile(second)).equals(content)).toBe(true)
  expect(await readdir(join(directory, 'deep'))).toEqual(['model.onnx', 'second.onnx'])
})

test('a file that is not what its digest says never appears', async () => {
  fake.state.files.set(digestOf(content), content)
  fake.state.corrupt = true
  const path = join(directory, 'model.onnx')
  await expect(downloadFile(registry, digestOf(content), path)).rejects.toMatchObject({ code: Code.DATA_LOSS })
  expect(await readdir(directory)).toEqual([])
})
