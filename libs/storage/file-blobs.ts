/**
 * The blob store on files: `sha256/{2 hex}/{62 hex}` holds content, `staging/` what is on its way.
 *
 * 1. A name below `sha256/` appears only by renaming a file that was written, checked and synced (promises 1, 2).
 * 2. Every read hashes from the first byte and holds its last piece back until the digest agrees (promise 3).
 * 3. All handles of an upload in this process share one queue, so appends never interleave (promise 5).
 */
import { createHash, randomUUID } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Code, Failure } from '@slipway/rpc'
import { meter, metric } from '@slipway/telemetry'
import { type BlobStore, type Digest, isDigest, type ReadOptions, type StagedBlob, type StoredBlob } from './blobs.ts'

const scope = meter('slipway.storage')
const bytesWritten = scope.createCounter(metric.blobBytesWritten)
const bytesRead = scope.createCounter(metric.blobBytesRead)
const pieceBytes = 256 * 1024
const emptyDigest = `sha256:${createHash('sha256').digest('hex')}`

/** Opens a blob store in a folder, which is made when missing. */
export function openFileBlobs(options: { readonly directory: string }): BlobStore {
  return new FileBlobs(options.directory)
}

class FileBlobs implements BlobStore {
  readonly #directory: string
  readonly #staging: string
  readonly #queues = new Map<string, Promise<unknown>>()

  constructor(directory: string) {
    this.#directory = directory
    this.#staging = join(directory, 'staging')
    mkdirSync(this.#staging, { recursive: true })
    mkdirSync(join(directory, 'sha256'), { recursive: true })
  }

  async stage(uploadId: string): Promise<StagedBlob> {
    if (!/^[A-Za-z0-9-]{1,64}$/.test(uploadId))
      throw Failure.invalid('upload_id', 'must be 1 to 64 letters, digits and -')
    const path = join(this.#staging, `upload-${uploadId}`)
    const upload = new StagedFile(
      path,
      (step) => this.#enqueue(uploadId, step),
      (digest) => this.#keep(path, digest),
    )
    await upload.refresh()
    return upload
  }

  async put(content: AsyncIterable<Uint8Array> | Uint8Array): Promise<StoredBlob> {
    const path = join(this.#staging, `put-${randomUUID()}`)
    try {
      const hash = createHash('sha256')
      const file = await open(path, 'wx')
      try {
        for await (const chunk of content instanceof Uint8Array ? [content] : content) {
          hash.update(chunk)
          await writeAll(file, chunk)
        }
        await file.sync()
      } finally {
        await file.close()
      }
      const digest = `sha256:${hash.digest('hex')}`
      return { digest, sizeBytes: await this.#publish(path, digest) }
    } catch (error) {
      await rm(path, { force: true })
      throw error
    }
  }

  async stat(digest: Digest): Promise<{ readonly sizeBytes: number } | undefined> {
    const size = await sizeOf(this.#pathOf(digest))
    return size === undefined ? undefined : { sizeBytes: size }
  }

  async *read(digest: Digest, options: ReadOptions = {}): AsyncGenerator<Uint8Array> {
    const offset = options.offset ?? 0
    const file = await openIfThere(this.#pathOf(digest))
    if (file === undefined) throw new Failure(Code.NOT_FOUND, 'BLOB_NOT_FOUND', `there is no blob ${digest}`)
    try {
      const { size } = await file.stat()
      if (offset < 0 || offset > size) {
        const message = `offset ${offset} lies outside the ${size} bytes of ${digest}`
        throw new Failure(Code.OUT_OF_RANGE, 'OFFSET_OUT_OF_RANGE', message)
      }
      yield* verified(pieces(file), digest, offset)
      bytesRead.add(size - offset)
    } finally {
      await file.close()
    }
  }

  async sweep(options: { readonly idleMs: number }): Promise<number> {
    const before = Date.now() - options.idleMs
    let swept = 0
    for (const name of await readdir(this.#staging)) {
      const path = join(this.#staging, name)
      const found = await stat(path).catch(() => undefined)
      if (found === undefined || found.mtimeMs >= before || this.#queues.has(name.replace(/^upload-/, ''))) continue
      await rm(path, { force: true })
      swept += 1
    }
    return swept
  }

  /** Checks a finished upload and moves it to its place. */
  async #keep(path: string, expected: Digest): Promise<StoredBlob> {
    const found = await this.#digestOf(path)
    if (found === expected) return { digest: expected, sizeBytes: await this.#publish(path, expected) }
    await rm(path, { force: true })
    const sizeBytes = await sizeOf(this.#pathOf(expected))
    if (sizeBytes !== undefined) return { digest: expected, sizeBytes }
    if (found === undefined && expected === emptyDigest) return await this.put(new Uint8Array())
    throw mismatch(found ?? emptyDigest, expected)
  }

  async #digestOf(path: string): Promise<Digest | undefined> {
    const file = await openIfThere(path, 'r+')
    if (file === undefined) return undefined
    try {
      const hash = createHash('sha256')
      for await (const piece of pieces(file)) hash.update(piece)
      await file.sync()
      return `sha256:${hash.digest('hex')}`
    } finally {
      await file.close()
    }
  }

  async #publish(path: string, digest: Digest): Promise<number> {
    const target = this.#pathOf(digest)
    const { size } = await stat(path)
    const created = await mkdir(dirname(target), { recursive: true })
    await rename(path, target)
    await syncDirectory(dirname(target))
    if (created !== undefined) await syncDirectory(join(this.#directory, 'sha256'))
    bytesWritten.add(size)
    return size
  }

  #pathOf(digest: Digest): string {
    if (!isDigest(digest)) throw Failure.invalid('digest', 'must be sha256: and 64 hexadecimal digits')
    const hex = digest.slice('sha256:'.length)
    return join(this.#directory, 'sha256', hex.slice(0, 2), hex.slice(2))
  }

  async #enqueue<T>(uploadId: string, step: () => Promise<T>): Promise<T> {
    const before = this.#queues.get(uploadId) ?? Promise.resolve()
    const turn = before.then(step, step)
    this.#queues.set(uploadId, turn)
    try {
      return await turn
    } finally {
      if (this.#queues.get(uploadId) === turn) this.#queues.delete(uploadId)
    }
  }
}

class StagedFile implements StagedBlob {
  readonly #path: string
  readonly #enqueue: <T>(step: () => Promise<T>) => Promise<T>
  readonly #keep: (digest: Digest) => Promise<StoredBlob>
  #receivedBytes = 0

  constructor(
    path: string,
    enqueue: <T>(step: () => Promise<T>) => Promise<T>,
    keep: (digest: Digest) => Promise<StoredBlob>,
  ) {
    this.#path = path
    this.#enqueue = enqueue
    this.#keep = keep
  }

  get receivedBytes(): number {
    return this.#receivedBytes
  }

  async refresh(): Promise<void> {
    this.#receivedBytes = (await sizeOf(this.#path)) ?? 0
  }

  async append(offset: number, chunk: Uint8Array): Promise<void> {
    await this.#enqueue(async () => {
      await this.refresh()
      const size = this.#receivedBytes
      if (offset > size || offset < 0) {
        const message = `the piece starts at ${offset} but only ${size} bytes have arrived`
        throw new Failure(Code.OUT_OF_RANGE, 'UPLOAD_GAP', message, { metadata: { receivedBytes: String(size) } })
      }
      const file = await open(this.#path, 'a')
      try {
        await writeAll(file, chunk.subarray(Math.min(size - offset, chunk.length)))
        this.#receivedBytes = Math.max(size, offset + chunk.length)
      } finally {
        await file.close()
      }
    })
  }

  async commit(expectedDigest: Digest): Promise<StoredBlob> {
    return await this.#enqueue(async () => {
      this.#receivedBytes = 0
      return await this.#keep(expectedDigest)
    })
  }

  async abort(): Promise<void> {
    await this.#enqueue(async () => {
      await rm(this.#path, { force: true })
      this.#receivedBytes = 0
    })
  }
}

function mismatch(found: Digest, expected: Digest): Failure {
  const message = `the bytes that arrived have the digest ${found}, not ${expected}; upload them again`
  const violations = [{ field: 'digest', description: message }]
  return new Failure(Code.INVALID_ARGUMENT, 'DIGEST_MISMATCH', message, { violations })
}

async function* pieces(file: FileHandle): AsyncGenerator<Uint8Array> {
  for (let position = 0; ; ) {
    const { bytesRead, buffer } = await file.read(new Uint8Array(pieceBytes), 0, pieceBytes, position)
    if (bytesRead === 0) return
    yield buffer.subarray(0, bytesRead)
    position += bytesRead
  }
}

/** Passes on what lies behind the offset, its last piece only once the whole content agrees with the digest. */
async function* verified(
  source: AsyncIterable<Uint8Array>,
  digest: Digest,
  offset: number,
): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256')
  let position = 0
  let held: Uint8Array | undefined
  for await (const piece of source) {
    hash.update(piece)
    const wanted = piece.subarray(Math.min(Math.max(offset - position, 0), piece.length))
    position += piece.length
    if (wanted.length === 0) continue
    if (held !== undefined) yield held
    held = wanted
  }
  const found = `sha256:${hash.digest('hex')}`
  if (found !== digest) {
    throw new Failure(Code.DATA_LOSS, 'BLOB_CORRUPT', `the stored bytes of ${digest} have the digest ${found}`)
  }
  if (held !== undefined) yield held
}

async function writeAll(file: FileHandle, chunk: Uint8Array): Promise<void> {
  try {
    for (let written = 0; written < chunk.length; ) {
      written += (await file.write(chunk, written, chunk.length - written)).bytesWritten
    }
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code !== 'ENOSPC' && code !== 'EDQUOT') throw cause
    throw new Failure(Code.RESOURCE_EXHAUSTED, 'STORAGE_FULL', 'there is no room left for files', { cause })
  }
}

async function openIfThere(path: string, flags = 'r'): Promise<FileHandle | undefined> {
  return await open(path, flags).catch(absentAsUndefined)
}

async function sizeOf(path: string): Promise<number | undefined> {
  return (await stat(path).catch(absentAsUndefined))?.size
}

function absentAsUndefined(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined
  throw error
}

async function syncDirectory(path: string): Promise<void> {
  // Windows cannot open a folder; there the file system journals renames by itself.
  if (process.platform === 'win32') return
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
