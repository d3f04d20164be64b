/**
 * Uploads files to the registry.
 *
 * 1. The upload's id follows from the content: a process that died in the middle continues where the registry stands.
 * 2. A file that is there already is not sent.
 * 3. The registry keeps the file only when its digest is the one that was computed here.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import type { FeatureStoreService } from '@slipway/proto/slipway/features/v1/feature_store_service'
import type { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { type Client, Code, Failure } from '@slipway/rpc'
import { type RetryOptions, retryUnavailable } from './retry.ts'

/** A file that the registry holds. */
export interface UploadedFile {
  /** `sha256:{hex}`. */
  readonly digest: string
  readonly sizeBytes: bigint
}

/** What an upload or a download may say about itself. */
export interface TransferOptions extends RetryOptions {
  /** Called as bytes arrive at the other side. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void
}

const chunkBytes = 256 * 1024
/** A stream that ends now and then bounds what is sent again after a failure. */
const callTimeoutMs = 10 * 60_000

interface Content {
  readonly sizeBytes: number
  readonly digest: string
  chunks(offset: number): AsyncIterable<Uint8Array>
}

/** Uploads a file by path, or bytes. */
export async function uploadFile(
  registry: Client<typeof RegistryService>,
  source: string | Uint8Array,
  options: TransferOptions = {},
): Promise<UploadedFile> {
  const content = typeof source === 'string' ? await openFile(source) : openBytes(source)
  const { digest, sizeBytes } = content
  const uploadId = digest.slice('sha256:'.length)
  await retryUnavailable(async () => {
    const upload = await standOf(registry, uploadId)
    if (upload.digest !== digest) await send(registry, { uploadId, content, offset: upload.receivedBytes, options })
  }, options)
  options.onProgress?.(sizeBytes, sizeBytes)
  return { digest, sizeBytes: BigInt(sizeBytes) }
}

/** Uploads the rows for which a training set is wanted, a Parquet file by path or its bytes. */
export async function uploadSpine(
  features: Client<typeof FeatureStoreService>,
  source: string | Uint8Array,
  options: TransferOptions = {},
): Promise<UploadedFile> {
  const content = typeof source === 'string' ? await openFile(source) : openBytes(source)
  const { digest, sizeBytes } = content
  const sending = { uploadId: digest.slice('sha256:'.length), content, offset: 0, options }
  await retryUnavailable(async () => {
    const { digest: kept } = await features.uploadSpine(pieces(sending), callOptions(options))
    if (kept !== digest) throw incomplete()
  }, options)
  return { digest, sizeBytes: BigInt(sizeBytes) }
}

async function standOf(registry: Client<typeof RegistryService>, uploadId: string) {
  try {
    const { digest, receivedBytes } = await registry.getUpload({ uploadId })
    return { digest, receivedBytes: Number(receivedBytes) }
  } catch (error) {
    if (error instanceof Failure && error.code === Code.NOT_FOUND) return { digest: '', receivedBytes: 0 }
    throw error
  }
}

interface Sending {
  readonly uploadId: string
  readonly content: Content
  readonly offset: number
  readonly options: TransferOptions
}

async function send(registry: Client<typeof RegistryService>, sending: Sending): Promise<void> {
  const { upload } = await registry.uploadFile(pieces(sending), callOptions(sending.options))
  if (upload?.digest !== sending.content.digest) throw incomplete()
}

function callOptions({ signal }: TransferOptions) {
  return { timeoutMs: callTimeoutMs, ...(signal && { signal }) }
}

function incomplete(): Failure {
  return new Failure(Code.UNAVAILABLE, 'UPLOAD_INCOMPLETE', 'the server has not received the whole file')
}

interface Piece {
  uploadId: string
  offset: bigint
  chunk?: Uint8Array
  digest?: string
}

async function* pieces({ uploadId, content, options, ...from }: Sending): AsyncGenerator<Piece> {
  let { offset } = from
  for await (const chunk of content.chunks(offset)) {
    yield { uploadId, offset: BigInt(offset), chunk }
    offset += chunk.length
    options.onProgress?.(offset, content.sizeBytes)
  }
  yield { uploadId, offset: BigInt(offset), digest: content.digest }
}

async function openFile(path: string): Promise<Content> {
  const { size } = await stat(path)
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
  return {
    sizeBytes: size,
    digest: `sha256:${hash.digest('hex')}`,
    chunks: (offset) => createReadStream(path, { start: offset, highWaterMark: chunkBytes }),
  }
}

function openBytes(bytes: Uint8Array): Content {
  return {
    sizeBytes: bytes.length,
    digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`,
    chunks: async function* (offset) {
      for (let at = offset; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes)
    },
  }
}
