import { createHash, randomBytes } from 'node:crypto'
import { Failure } from '@slipway/rpc'
import { expect, test } from 'vitest'
import type { BlobStore, Digest, ReadOptions } from './blobs.ts'

/** What a contract test needs to know of an adapter. */
export interface BlobStoreUnderTest {
  /** A handle on the same content each time, as a second process would open it. */
  open(): BlobStore
  /** Changes one stored byte of a blob behind the adapter's back. */
  flipByte(digest: Digest, offset: number): Promise<void>
  /** Cuts a stored blob behind the adapter's back. */
  truncate(digest: Digest, sizeBytes: number): Promise<void>
}

/** Checks every promise of the port; each adapter's test calls it. */
export function blobStoreContract(create: () => BlobStoreUnderTest): void {
  const content = randomBytes(1_000_000)
  const digest = digestOf(content)

  test('1 and 2: acknowledged content is read back by another handle, with digest and size', async () => {
    const subject = create()
    expect(await subject.open().put(content)).toEqual({ digest, sizeBytes: content.length })
    expect(await subject.open().stat(digest)).toEqual({ sizeBytes: content.length })
    expect(await read(subject.open(), digest)).toEqual(content)
  })

  test('2: content that failed on its way is not there', async () => {
    const store = create().open()
    async function* broken() {
      yield content.subarray(0, 500_000)
      throw new Error('connection lost')
    }
    await expect(store.put(broken())).rejects.toThrow('connection lost')
    expect(await store.stat(digestOf(content.subarray(0, 500_000)))).toBeUndefined()
    expect(await failureOf(read(store, digest))).toMatchObject({ reason: 'BLOB_NOT_FOUND' })
  })

  test('3: any offset gives the rest, one behind the end is refused', async () => {
    const store = create().open()
    await store.put(content)
    for (const offset of [0, 1, 262_143, 262_144, 262_145, 999_999, 1_000_000]) {
      expect((await read(store, digest, { offset })).equals(content.subarray(offset))).toBe(true)
    }
    expect(await failureOf(read(store, digest, { offset: 1_000_001 }))).toMatchObject({ reason: 'OFFSET_OUT_OF_RANGE' })
  })

  test('3: a flipped byte, wherever it is, ends every read with DATA_LOSS before its last piece', async () => {
    for (const position of [0, 500_000, 999_999]) {
      const subject = create()
      await subject.open().put(content)
      await subject.flipByte(digest, position)
      for (const offset of [0, 600_000]) {
        const { bytes, error } = await drain(subject.open(), digest, { offset })
        expect(error).toMatchObject({ reason: 'BLOB_CORRUPT' })
        expect(bytes.length).toBeLessThan(content.length - offset)
      }
    }
  })

  test('3: a cut blob ends every read with DATA_LOSS', async () => {
    const subject = create()
    await subject.open().put(content)
    await subject.truncate(digest, 999_999)
    expect(await failureOf(read(subject.open(), digest))).toMatchObject({ reason: 'BLOB_CORRUPT' })
  })

  test('4: twenty writers of the same content all succeed, and one more repairs a damaged copy', async () => {
    const subject = create()
    const writers = Array.from({ length: 20 }, () => subject.open().put(content))
    expect(new Set((await Promise.all(writers)).map((blob) => blob.digest))).toEqual(new Set([digest]))
    await subject.flipByte(digest, 7)
    await subject.open().put(content)
    expect(await read(subject.open(), digest)).toEqual(content)
  })

  test('5: an upload continues in another handle; bytes sent again are skipped and a gap is refused', async () => {
    const subject = create()
    const first = await subject.open().stage('upload-1')
    await first.append(0, content.subarray(0, 400_000))
    const second = await subject.open().stage('upload-1')
    expect(second.receivedBytes).toBe(400_000)
    expect(await failureOf(second.append(400_001, content.subarray(400_001)))).toMatchObject({ reason: 'UPLOAD_GAP' })
    await second.append(0, content.subarray(0, 100))
    await second.append(399_000, content.subarray(399_000, 700_000))
    expect(second.receivedBytes).toBe(700_000)
    await second.append(700_000, content.subarray(700_000))
    expect(await second.commit(digest)).toEqual({ digest, sizeBytes: content.length })
    expect(await read(subject.open(), digest)).toEqual(content)
    expect((await subject.open().stage('upload-1')).receivedBytes).toBe(0)
  })

  test('5: appends of one upload from many handles at once never interleave', async () => {
    const store = create().open()
    const handles = await Promise.all(Array.from({ length: 8 }, () => store.stage('upload-1')))
    await Promise.all(handles.map((handle) => handle.append(0, content)))
    expect(await (await store.stage('upload-1')).commit(digest)).toEqual({ digest, sizeBytes: content.length })
  })

  test('6: a wrong digest is refused and drops the upload; a repeated commit succeeds again', async () => {
    const store = create().open()
    const upload = await store.stage('upload-1')
    await upload.append(0, content.subarray(1))
    expect(await failureOf(upload.commit(digest))).toMatchObject({ reason: 'DIGEST_MISMATCH' })
    expect(upload.receivedBytes).toBe(0)
    expect(await failureOf(upload.commit(digest))).toMatchObject({ reason: 'DIGEST_MISMATCH' })
    expect(await store.stat(digest)).toBeUndefined()
    await upload.append(0, content)
    await upload.commit(digest)
    expect(await upload.commit(digest)).toEqual({ digest, sizeBytes: content.length })
  })

  test('6: handles that come late to an upload that another one commits end well or with a gap, never with a mismatch', async () => {
    const store = create().open()
    const [first, second, third] = [await store.stage('u'), await store.stage('u'), await store.stage('u')]
    await first.append(0, content)
    await first.commit(digest)
    expect(await failureOf(second.append(500_000, content.subarray(500_000)))).toMatchObject({ reason: 'UPLOAD_GAP' })
    expect(await third.commit(digest)).toEqual({ digest, sizeBytes: content.length })
    await second.append(0, content.subarray(0, 10))
    expect(await third.commit(digest)).toEqual({ digest, sizeBytes: content.length })
    expect((await store.stage('u')).receivedBytes).toBe(0)
    expect(await read(store, digest)).toEqual(content)
  })

  test('6: an aborted upload starts again from 0', async () => {
    const store = create().open()
    const upload = await store.stage('upload-1')
    await upload.append(0, content)
    await upload.abort()
    expect((await store.stage('upload-1')).receivedBytes).toBe(0)
  })

  test('7: a sweep drops uploads that nobody has touched for so long, and no content', async () => {
    const store = create().open()
    await store.put(content)
    await (await store.stage('upload-1')).append(0, content)
    expect(await store.sweep({ idleMs: 3_600_000 })).toBe(0)
    expect(await store.sweep({ idleMs: -1000 })).toBe(1)
    expect((await store.stage('upload-1')).receivedBytes).toBe(0)
    expect(await store.stat(digest)).toEqual({ sizeBytes: content.length })
  })

  test('empty content is content', async () => {
    const store = create().open()
    const empty = digestOf(new Uint8Array())
    expect(await (await store.stage('upload-1')).commit(empty)).toEqual({ digest: empty, sizeBytes: 0 })
    expect(await read(store, empty)).toHaveLength(0)
  })

  test('a name that could leave the store is refused', async () => {
    const store = create().open()
    for (const wrong of ['', '../../etc', 'a/b', 'sha256:../..']) {
      expect(await failureOf(store.stage(wrong))).toBeInstanceOf(Failure)
      expect(await failureOf(store.stat(wrong))).toBeInstanceOf(Failure)
    }
  })
}

function digestOf(content: Uint8Array): Digest {
  return `sha256:${createHash('sha256').update(content).digest('hex')}`
}

async function read(store: BlobStore, digest: Digest, options?: ReadOptions): Promise<Buffer> {
  const { bytes, error } = await drain(store, digest, options)
  if (error !== undefined) throw error
  return bytes
}

async function drain(
  store: BlobStore,
  digest: Digest,
  options?: ReadOptions,
): Promise<{ bytes: Buffer; error: unknown }> {
  const chunks: Uint8Array[] = []
  try {
    for await (const chunk of store.read(digest, options)) chunks.push(chunk)
  } catch (error) {
    return { bytes: Buffer.concat(chunks), error }
  }
  return { bytes: Buffer.concat(chunks), error: undefined }
}

async function failureOf(attempt: Promise<unknown>): Promise<unknown> {
  return await attempt.then(
    () => undefined,
    (error: unknown) => error,
  )
}
