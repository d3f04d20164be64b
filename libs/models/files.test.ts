import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { type Client, Code, createClient, createServer, Failure, implement, type RpcServer } from '@slipway/rpc'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { bytesSource, downloadBytes, downloadFile, uploadFile } from './files.ts'
import { retryUnavailable } from './retry.ts'

const content = randomBytes(1_000_000)
const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`
const unavailable = () => new Failure(Code.UNAVAILABLE, 'GONE', 'gone')

let server: RpcServer
let client: Client<typeof RegistryService>
/** What has arrived; an upload breaks off each time that it took `breakAfterBytes` more. */
let received: Buffer
let breakAfterBytes: number
/** Offsets from which transfers were asked for. */
let offsets: number[]
let served: Buffer

beforeEach(async () => {
  received = Buffer.alloc(0)
  breakAfterBytes = Number.POSITIVE_INFINITY
  offsets = []
  served = content
  const service = implement(RegistryService, {
    getUpload: async ({ uploadId }) => ({ uploadId, receivedBytes: BigInt(received.length) }),
    uploadFile: async (requests) => {
      const start = received.length
      offsets.push(start)
      for await (const { offset, chunk, digest: expected } of requests) {
        expect(Number(offset)).toBe(received.length)
        received = Buffer.concat([received, chunk])
        if (expected !== '') return { upload: { receivedBytes: BigInt(received.length), digest: expected } }
        if (received.length - start >= breakAfterBytes) throw unavailable()
      }
      return {}
    },
    downloadFile: async function* ({ offset }) {
      offsets.push(Number(offset))
      if (offset > BigInt(served.length)) throw new Failure(Code.OUT_OF_RANGE, 'OFFSET_OUT_OF_RANGE', 'behind the end')
      let given = 0
      for (let at = Number(offset); at < served.length; at += 100_000) {
        if (given >= breakAfterBytes) throw unavailable()
        const chunk = served.subarray(at, at + 100_000)
        given += chunk.length
        yield { offset: BigInt(at), chunk, sizeBytes: BigInt(served.length) }
      }
    },
  })
  server = createServer({ implementations: [service], listen: { host: '127.0.0.1', port: 0 } })
  const { address } = await server.start()
  client = createClient(RegistryService, { address })
})

afterEach(async () => {
  client.close()
  await server.drain({ graceMs: 0 })
})

test('an upload that breaks off again and again goes on each time where it stopped', async () => {
  breakAfterBytes = 262_144
  expect(await uploadFile(client, bytesSource(content))).toEqual({ digest, sizeBytes: 1_000_000 })
  expect(offsets).toEqual([0, 262_144, 524_288, 786_432])
  expect(received.equals(content)).toBe(true)
})

test('a part that is longer than the file is no part of it: it goes, and the next download begins anew', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'slipway-models-'))
  const path = join(directory, 'file')
  writeFileSync(`${path}.part`, Buffer.alloc(content.length + 1))
  await expect(downloadFile(client, digest, path)).rejects.toMatchObject({ code: Code.OUT_OF_RANGE })
  await downloadFile(client, digest, path)
  expect(readFileSync(path).equals(content)).toBe(true)
  rmSync(directory, { recursive: true })
})

test('a download that breaks off goes on where it stopped and is checked as a whole', async () => {
  breakAfterBytes = 300_000
  expect((await downloadBytes(client, digest)).equals(content)).toBe(true)
  expect(offsets).toEqual([0, 300_000, 600_000, 900_000])
})

test('bytes that are not those of the digest are an error and leave no file', async () => {
  served = Buffer.from(content)
  served[999_999] = (served[999_999] ?? 0) ^ 1
  await expect(downloadBytes(client, digest)).rejects.toMatchObject({ reason: 'DIGEST_MISMATCH' })
  const directory = mkdtempSync(join(tmpdir(), 'slipway-files-'))
  const path = join(directory, 'model.onnx')
  await expect(downloadFile(client, digest, path)).rejects.toMatchObject({ reason: 'DIGEST_MISMATCH' })
  served = content
  await downloadFile(client, digest, path)
  expect(readFileSync(path).equals(content)).toBe(true)
  rmSync(directory, { recursive: true })
})

test('without progress patience ends with the last failure; what will not pass is thrown at once', async () => {
  breakAfterBytes = 0
  await expect(downloadBytes(client, digest, { patienceMs: 200 })).rejects.toMatchObject({ reason: 'GONE' })
  expect(offsets.length).toBeGreaterThan(1)
  let attempts = 0
  const refused = retryUnavailable(async () => {
    attempts += 1
    throw Failure.invalid('name', 'is wrong')
  })
  await expect(refused).rejects.toMatchObject({ code: Code.INVALID_ARGUMENT })
  expect(attempts).toBe(1)
})
