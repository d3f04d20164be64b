import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { bytesSource, downloadBytes, downloadFile, fileSource, uploadFile } from '@slipway/models'
import { Code } from '@slipway/rpc'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { failureOf, startTestRegistry, type TestRegistry } from './test-registry.ts'

const content = randomBytes(3_000_000)
const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`

let registry: TestRegistry

beforeEach(async () => {
  registry = await startTestRegistry({ SLIPWAY_REGISTRY_MAX_FILE: '4MiB' })
})

afterEach(async () => {
  await registry.stop()
})

interface Piece {
  uploadId?: string
  offset?: bigint
  chunk?: Uint8Array
  digest?: string
}

async function* stream(...pieces: Piece[]) {
  yield* pieces
}

test('an upload that broke off goes on after a restart, and its answer can be asked for again', async () => {
  const uploadId = randomUUID()
  expect(await registry.client.getUpload({ uploadId })).toMatchObject({ receivedBytes: 0n, digest: '' })
  const first = stream({ uploadId, chunk: content.subarray(0, 1_000_000) })
  const broken = await registry.client.uploadFile(first)
  expect(broken.upload).toMatchObject({ uploadId, receivedBytes: 1_000_000n, digest: '' })
  await registry.restart()
  const progress: number[] = []
  const options = { uploadId, onProgress: (bytes: number) => progress.push(bytes) }
  expect(await uploadFile(registry.client, bytesSource(content), options)).toEqual({ digest, sizeBytes: 3_000_000 })
  expect(progress[0]).toBeGreaterThan(1_000_000)
  expect(await registry.client.getUpload({ uploadId })).toMatchObject({ receivedBytes: 3_000_000n, digest })
  const again = await registry.client.uploadFile(stream({ uploadId, digest }))
  expect(again.upload).toMatchObject({ digest })
  const other = registry.client.uploadFile(stream({ uploadId, digest: `sha256:${'0'.repeat(64)}` }))
  expect(await failureOf(other)).toMatchObject({ reason: 'UPLOAD_COMPLETE' })
})

test('many callers at once may upload the same content', async () => {
  const uploads = Array.from({ length: 12 }, () => uploadFile(registry.client, bytesSource(content)))
  for (const upload of await Promise.all(uploads)) expect(upload).toEqual({ digest, sizeBytes: 3_000_000 })
  expect((await downloadBytes(registry.client, digest)).equals(content)).toBe(true)
})

test('wrong uploads are refused by their field', async () => {
  const uploadId = randomUUID()
  const chunk = content.subarray(0, 10)
  const cases: [Piece[], object][] = [
    [[{ chunk }], { violations: [{ field: 'upload_id' }] }],
    [[], { violations: [{ field: 'upload_id' }] }],
    [
      [
        { uploadId, chunk },
        { uploadId: randomUUID(), chunk },
      ],
      { violations: [{ field: 'upload_id' }] },
    ],
    [[{ uploadId, offset: 11n, chunk }], { code: Code.OUT_OF_RANGE, reason: 'UPLOAD_GAP' }],
    [[{ uploadId, offset: 4n * 1024n * 1024n, chunk }], { reason: 'FILE_TOO_LARGE' }],
    [[{ uploadId, digest }], { reason: 'DIGEST_MISMATCH', violations: [{ field: 'digest' }] }],
    [[{ uploadId, digest: 'md5:1' }], { violations: [{ field: 'digest' }] }],
  ]
  for (const [pieces, expected] of cases) {
    expect(await failureOf(registry.client.uploadFile(stream(...pieces)))).toMatchObject(expected)
  }
})

test('a file travels from disk to disk, from an offset on where part of it is there already', async () => {
  const directory = mkdtempSync(join(registry.directory, 'files-'))
  writeFileSync(join(directory, 'a'), content)
  await uploadFile(registry.client, await fileSource(join(directory, 'a')))
  writeFileSync(join(directory, 'b.part'), content.subarray(0, 2_900_000))
  const progress: number[] = []
  const onProgress = (bytes: number) => progress.push(bytes)
  await downloadFile(registry.client, digest, join(directory, 'b'), { onProgress })
  expect(readFileSync(join(directory, 'b')).equals(content)).toBe(true)
  expect(progress[0]).toBeGreaterThan(2_900_000)
  writeFileSync(join(directory, 'c.part'), randomBytes(1000))
  const spoiled = downloadFile(registry.client, digest, join(directory, 'c'))
  expect(await failureOf(spoiled)).toMatchObject({ code: Code.DATA_LOSS, reason: 'DIGEST_MISMATCH' })
  await downloadFile(registry.client, digest, join(directory, 'c'))
  rmSync(directory, { recursive: true })
})

test('a byte that changed on the registry’s disk ends every download with DATA_LOSS', async () => {
  await uploadFile(registry.client, bytesSource(content))
  const hex = digest.slice('sha256:'.length)
  const path = join(registry.directory, 'registry', 'files', 'sha256', hex.slice(0, 2), hex.slice(2))
  const stored = readFileSync(path)
  stored[1_234_567] = (stored[1_234_567] ?? 0) ^ 1
  writeFileSync(path, stored)
  expect(await failureOf(downloadBytes(registry.client, digest))).toMatchObject({ code: Code.DATA_LOSS })
})

test('a file that was cut on the registry’s disk is repaired by uploading it again', async () => {
  await uploadFile(registry.client, bytesSource(content))
  const hex = digest.slice('sha256:'.length)
  const path = join(registry.directory, 'registry', 'files', 'sha256', hex.slice(0, 2), hex.slice(2))
  truncateSync(path, 5)
  await uploadFile(registry.client, bytesSource(content))
  expect((await downloadBytes(registry.client, digest)).equals(content)).toBe(true)
})

test('a file that is not there is NOT_FOUND, an offset behind its end OUT_OF_RANGE', async () => {
  const download = async (request: { digest: string; offset?: bigint }) => {
    for await (const _ of registry.client.downloadFile(request));
  }
  expect(await failureOf(download({ digest }))).toMatchObject({ code: Code.NOT_FOUND, reason: 'FILE_NOT_FOUND' })
  await uploadFile(registry.client, bytesSource(new Uint8Array()))
  const empty = `sha256:${createHash('sha256').digest('hex')}`
  expect(await downloadBytes(registry.client, empty)).toHaveLength(0)
  expect(await failureOf(download({ digest: empty, offset: 1n }))).toMatchObject({ code: Code.OUT_OF_RANGE })
})
