import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { Code, type Failure } from '@slipway/rpc'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startTestStore, type TestStore } from './store.fixture.ts'

let store: TestStore
beforeEach(async () => {
  store = await startTestStore({ SLIPWAY_FEATURE_STORE_MAX_SPINE: '3MiB' })
})
afterEach(() => store.stop())

const content = new Uint8Array(randomBytes(2_500_000))
const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`

interface Piece {
  uploadId?: string
  offset: bigint
  chunk?: Uint8Array<ArrayBuffer>
  digest?: string
}

async function upload(...pieces: readonly Piece[]) {
  async function* requests() {
    yield* pieces
  }
  return await store.client.uploadSpine(requests())
}

const failureOf = async (work: Promise<unknown>): Promise<Failure> =>
  await work.then(
    () => Promise.reject(new Error('did not fail')),
    (error: Failure) => error,
  )

const piece = (uploadId: string, from: number, to: number): Piece => {
  return { uploadId, offset: BigInt(from), chunk: content.subarray(from, to) }
}

test('an upload that broke off goes on where it stood, over a restart too, and pieces may come twice', async () => {
  const uploadId = randomUUID()
  expect(await upload(piece(uploadId, 0, 900_000))).toMatchObject({ receivedBytes: 900_000n, digest: '' })
  await store.restart()
  expect(await store.client.getSpineUpload({ uploadId })).toMatchObject({ receivedBytes: 900_000n })
  const rest = [piece(uploadId, 800_000, 1_800_000), piece('', 1_800_000, 2_500_000), { offset: 2_500_000n, digest }]
  expect(await upload(...rest)).toMatchObject({ receivedBytes: 2_500_000n, digest })
  expect(await upload({ uploadId, offset: 2_500_000n, digest })).toMatchObject({ digest })
})

test('a gap, another digest and too many bytes are refused', async () => {
  const uploadId = randomUUID()
  await upload(piece(uploadId, 0, 500_000))
  const gap = await failureOf(upload(piece(uploadId, 600_000, 700_000)))
  expect(gap).toMatchObject({ code: Code.OUT_OF_RANGE, metadata: { receivedBytes: '500000' } })
  const other = { uploadId, offset: 500_000n, digest: `sha256:${'0'.repeat(64)}` }
  expect(await failureOf(upload(other))).toMatchObject({ code: Code.INVALID_ARGUMENT, reason: 'DIGEST_MISMATCH' })
  expect(await store.client.getSpineUpload({ uploadId })).toMatchObject({ receivedBytes: 0n })
  const large = { uploadId, offset: 3n * 1024n * 1024n, chunk: new Uint8Array(1) }
  expect((await failureOf(upload(large))).violations[0]?.field).toBe('offset')
})

test('the first piece names the upload, and a stream carries one', async () => {
  expect((await failureOf(upload(piece('', 0, 10)))).violations[0]?.field).toBe('upload_id')
  const two = await failureOf(upload(piece(randomUUID(), 0, 10), piece(randomUUID(), 10, 20)))
  expect(two.violations[0]?.field).toBe('upload_id')
})
