/**
 * Files of model versions on this server's disk, by the SHA-256 of their content.
 *
 * 1. A file has its final name only after all of it was fetched, its digest agreed, and it was synced.
 * 2. A fetch that broke off, in this process or an earlier one, goes on where it stopped.
 * 3. `read` gives bytes whose digest was checked in this very call; a file that fails it is dropped and fetched anew.
 * 4. The cache stays below its bound by dropping what was not used for longest, except for what is held.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { Code, Failure } from '@slipway/rpc'

const PARTIAL = '.partial'

/** A file by its content. */
export interface Artifact {
  /** `sha256:{hex}`. */
  readonly digest: string
  readonly sizeBytes: number
}

/** Gives a file's bytes from an offset on. */
export type FetchArtifact = (digest: string, offset: number) => AsyncIterable<Uint8Array>

/** What a cache needs from around it. */
export interface ArtifactCacheOptions {
  readonly directory: string
  readonly maxBytes: number
  readonly fetch: FetchArtifact
  /** Digests that must stay, whatever the bound. */
  readonly held: () => ReadonlySet<string>
}

/** See the top of this file. */
export class ArtifactCache {
  readonly #options: ArtifactCacheOptions
  readonly #fetches = new Map<string, Promise<void>>()

  constructor(options: ArtifactCacheOptions) {
    this.#options = options
  }

  /** Reads a file, fetching it first if it is not here. DATA_LOSS when what the source gives is not what the digest says. */
  async read(artifact: Artifact): Promise<Buffer> {
    const path = await this.ensure(artifact)
    const bytes = await readFile(path)
    if (digestOf(bytes) === artifact.digest) return bytes
    await rm(path, { force: true })
    await this.ensure(artifact)
    const again = await readFile(path)
    if (digestOf(again) === artifact.digest) return again
    throw wrongDigest(artifact)
  }

  /** Has a file here, and returns its path. */
  async ensure(artifact: Artifact): Promise<string> {
    const path = this.#path(artifact.digest)
    const found = await stat(path).catch(() => undefined)
    if (found?.size === artifact.sizeBytes) {
      await utimes(path, new Date(), new Date())
      return path
    }
    let fetching = this.#fetches.get(artifact.digest)
    if (fetching === undefined) {
      fetching = this.#fetch(artifact, path).finally(() => this.#fetches.delete(artifact.digest))
      this.#fetches.set(artifact.digest, fetching)
    }
    await fetching
    await this.#evict()
    return path
  }

  async #fetch(artifact: Artifact, path: string): Promise<void> {
    await mkdir(this.#options.directory, { recursive: true })
    const partial = `${path}${PARTIAL}`
    const file = await open(partial, 'a')
    try {
      const { size } = await file.stat()
      if (size > artifact.sizeBytes) await file.truncate(0)
      const start = size > artifact.sizeBytes ? 0 : size
      if (start < artifact.sizeBytes) {
        let received = start
        for await (const chunk of this.#options.fetch(artifact.digest, start)) {
          received += chunk.length
          if (received > artifact.sizeBytes) break
          await file.appendFile(chunk)
        }
      }
      await file.sync()
    } finally {
      await file.close()
    }
    const { size } = await stat(partial)
    if (size < artifact.sizeBytes) {
      const message = `${artifact.digest} ended after ${size} of ${artifact.sizeBytes} bytes`
      throw new Failure(Code.UNAVAILABLE, 'DOWNLOAD_BROKEN', message)
    }
    if ((await digestOfFile(partial)) !== artifact.digest) {
      await rm(partial, { force: true })
      throw wrongDigest(artifact)
    }
    await rename(partial, path)
    await syncDirectory(this.#options.directory)
  }

  async #evict(): Promise<void> {
    const { directory, maxBytes, held } = this.#options
    const holds = held()
    const names = await readdir(directory)
    const files = await Promise.all(
      names.map(async (name) => ({
        name,
        ...(await stat(join(directory, name)).catch(() => ({ size: 0, mtimeMs: 0 }))),
      })),
    )
    let total = files.reduce((sum, { size }) => sum + size, 0)
    for (const { name, size } of files.sort((left, right) => left.mtimeMs - right.mtimeMs)) {
      if (total <= maxBytes) return
      const digest = `sha256:${name.replace(PARTIAL, '')}`
      if (holds.has(digest) || this.#fetches.has(digest)) continue
      await rm(join(directory, name), { force: true })
      total -= size
    }
  }

  #path(digest: string): string {
    const hex = /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1]
    if (hex === undefined) throw new Failure(Code.FAILED_PRECONDITION, 'BAD_DIGEST', `'${digest}' is no digest`)
    return join(this.#options.directory, hex)
  }
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

async function digestOfFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
  return `sha256:${hash.digest('hex')}`
}

/** Has a folder's entries on disk, such as a file that was renamed. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

function wrongDigest({ digest }: Artifact): Failure {
  return new Failure(Code.DATA_LOSS, 'DIGEST_MISMATCH', `the content that came for ${digest} has another digest`, {
    metadata: { digest },
  })
}
