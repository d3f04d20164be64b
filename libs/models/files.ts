/**
 * Files of versions on their way to and from the registry.
 *
 * 1. A transfer that breaks off goes on where it stopped, also in another process; what is there already is not sent.
 * 2. What arrives is checked against its digest, on both sides; a difference is an error, never a result.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, rename, rm, stat } from 'node:fs/promises'
import type { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { type Client, Code, Failure } from '@slipway/rpc'
import { Patience, type RetryOptions } from './retry.ts'

/** The calls of the registry that carry files. */
export type RegistryFiles = Pick<Client<typeof RegistryService>, 'uploadFile' | 'getUpload' | 'downloadFile'>

/** Something to upload. */
export interface FileSource {
  readonly sizeBytes: number
  /** `sha256:{hex}` of the whole content. */
  readonly digest: string
  /** The content from an offset on; called again when a transfer breaks off. */
  read(offset: number): AsyncIterable<Uint8Array>
}

/** How a transfer is watched and how patient it is. */
export interface TransferOptions extends RetryOptions {
  /** Names the upload; unless given, the name follows from the content, so that another process can go on with it. */
  readonly uploadId?: string
  /** Hears how many bytes have been transferred. */
  readonly onProgress?: (bytes: number) => void
}

const pieceBytes = 256 * 1024

/** Content in memory. */
export function bytesSource(content: Uint8Array): FileSource {
  return {
    sizeBytes: content.length,
    digest: digestOf(content),
    read: async function* (offset) {
      yield content.subarray(offset)
    },
  }
}

/** A file on disk; read once to take its digest. */
export async function fileSource(path: string): Promise<FileSource> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
  const { size } = await stat(path)
  return {
    sizeBytes: size,
    digest: `sha256:${hash.digest('hex')}`,
    read: (offset) => createReadStream(path, { start: offset, highWaterMark: pieceBytes }),
  }
}

/** Uploads a file; resolves when the registry has checked and kept it. */
export async function uploadFile(
  registry: RegistryFiles,
  source: FileSource,
  options: TransferOptions = {},
): Promise<{ digest: string; sizeBytes: number }> {
  const uploadId = options.uploadId ?? source.digest.slice('sha256:'.length)
  const patience = new Patience(options)
  let before = 0
  for (;;) {
    try {
      const { receivedBytes, digest } = await registry.getUpload({ uploadId })
      if (digest === source.digest) return { digest, sizeBytes: source.sizeBytes }
      if (receivedBytes > before) patience.progressed()
      before = Number(receivedBytes)
      const requests = messages(uploadId, source, before, options)
      const { upload } = await registry.uploadFile(requests, { timeoutMs: 3_600_000, ...signalOf(options) })
      if (upload?.digest === source.digest) return { digest: upload.digest, sizeBytes: source.sizeBytes }
      throw new Failure(Code.UNAVAILABLE, 'UPLOAD_INCOMPLETE', `the upload ${uploadId} ended early`)
    } catch (error) {
      // There is a gap when somebody else completed the same upload meanwhile: then it is asked for anew.
      await patience.endure(error, ['UPLOAD_GAP'])
    }
  }
}

/** Downloads a file into memory. */
export async function downloadBytes(
  registry: RegistryFiles,
  digest: string,
  options: TransferOptions = {},
): Promise<Buffer> {
  const hash = createHash('sha256')
  const received: Uint8Array[] = []
  for await (const piece of pieces(registry, digest, 0, options)) {
    hash.update(piece)
    received.push(piece)
  }
  check(digest, hash.digest('hex'))
  return Buffer.concat(received)
}

/** Downloads a file to a path, which appears only once its content is checked; goes on with `{path}.part` if there is one. */
export async function downloadFile(
  registry: RegistryFiles,
  digest: string,
  path: string,
  options: TransferOptions = {},
): Promise<void> {
  const part = `${path}.part`
  try {
    await downloadPart(registry, digest, part, options)
  } catch (error) {
    // What is there is not the beginning of this content: the next try begins anew.
    const isOther = error instanceof Failure && (error.code === Code.DATA_LOSS || error.code === Code.OUT_OF_RANGE)
    if (isOther) await rm(part, { force: true })
    throw error
  }
  await rename(part, path)
}

async function downloadPart(
  registry: RegistryFiles,
  digest: string,
  part: string,
  options: TransferOptions,
): Promise<void> {
  const hash = createHash('sha256')
  const file = await open(part, 'a+')
  try {
    for await (const chunk of file.createReadStream({ start: 0, autoClose: false })) hash.update(chunk as Buffer)
    const { size } = await file.stat()
    for await (const piece of pieces(registry, digest, size, options)) {
      hash.update(piece)
      await file.writeFile(piece)
    }
    await file.sync()
  } finally {
    await file.close()
  }
  check(digest, hash.digest('hex'))
}

async function* messages(uploadId: string, source: FileSource, from: number, options: TransferOptions) {
  let offset = from
  let isFirst = true
  const message = (chunk: Uint8Array, digest: string) => {
    const request = { uploadId: isFirst ? uploadId : '', offset: BigInt(offset), chunk, digest }
    isFirst = false
    return request
  }
  if (offset < source.sizeBytes) {
    for await (const content of source.read(offset)) {
      for (let start = 0; start < content.length; start += pieceBytes) {
        const chunk = content.subarray(start, start + pieceBytes)
        yield message(chunk, '')
        offset += chunk.length
        options.onProgress?.(offset)
      }
    }
  }
  yield message(new Uint8Array(), source.digest)
}

async function* pieces(
  registry: RegistryFiles,
  digest: string,
  from: number,
  options: TransferOptions,
): AsyncGenerator<Uint8Array> {
  const patience = new Patience(options)
  let offset = BigInt(from)
  for (;;) {
    try {
      for await (const answer of registry.downloadFile({ digest, offset }, signalOf(options))) {
        if (answer.offset !== offset) throw new Failure(Code.DATA_LOSS, 'DOWNLOAD_GAP', `${digest} came with a gap`)
        yield answer.chunk
        offset += BigInt(answer.chunk.length)
        patience.progressed()
        options.onProgress?.(Number(offset))
      }
      return
    } catch (error) {
      await patience.endure(error)
    }
  }
}

function check(digest: string, hex: string): void {
  if (digest === `sha256:${hex}`) return
  throw new Failure(Code.DATA_LOSS, 'DIGEST_MISMATCH', `what came for ${digest} has the digest sha256:${hex}`)
}

function digestOf(content: Uint8Array): string {
  return `sha256:${createHash('sha256').update(content).digest('hex')}`
}

function signalOf(options: TransferOptions): { signal?: AbortSignal } {
  return options.signal ? { signal: options.signal } : {}
}
