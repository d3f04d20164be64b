import { create } from '@bufbuild/protobuf'
import {
  type DownloadFileRequest,
  type DownloadFileResponse,
  DownloadFileResponseSchema,
  type Upload,
  type UploadFileRequest,
  UploadSchema,
} from '@slipway/proto/slipway/registry/v1/registry_service'
import { Code, Failure } from '@slipway/rpc'
import type { BlobStore, StagedBlob } from '@slipway/storage'
import type { Kysely } from 'kysely'
import type { Schema } from './schema.ts'

/** What uploads need. */
export interface UploadsOptions {
  readonly database: Kysely<Schema>
  readonly blobs: BlobStore
  readonly nowMicros: () => bigint
  /** Largest file, in bytes. */
  readonly maxFileBytes: number
}

/** Files on their way in and out. */
export class Uploads {
  readonly #options: UploadsOptions

  constructor(options: UploadsOptions) {
    this.#options = options
  }

  /** Takes pieces until the stream ends; a message with a digest completes the upload. */
  async receive(requests: AsyncIterable<UploadFileRequest>): Promise<Upload> {
    let uploadId = ''
    let staged: StagedBlob | undefined
    for await (const request of requests) {
      if (staged === undefined) {
        uploadId = request.uploadId
        if (uploadId === '') throw Failure.invalid('upload_id', 'must be set on the first message')
        const complete = await this.#complete(uploadId)
        if (complete !== undefined) return answerAgain(complete, request.digest)
        staged = await this.#options.blobs.stage(uploadId)
      } else if (request.uploadId !== '' && request.uploadId !== uploadId) {
        throw Failure.invalid('upload_id', `a stream carries one upload, and this one carries ${uploadId}`)
      }
      if (request.chunk.length > 0) await this.#append(staged, request)
      if (request.digest !== '') return await this.#commit(uploadId, staged, request.digest)
    }
    if (staged === undefined) throw Failure.invalid('upload_id', 'must be set on the first message')
    return create(UploadSchema, { uploadId, receivedBytes: BigInt(staged.receivedBytes) })
  }

  /** Where an upload stands; one that nobody began has received nothing. */
  async get(uploadId: string): Promise<Upload> {
    const complete = await this.#complete(uploadId)
    if (complete !== undefined) return complete
    const { receivedBytes } = await this.#options.blobs.stage(uploadId)
    return create(UploadSchema, { uploadId, receivedBytes: BigInt(receivedBytes) })
  }

  /** Gives a file's bytes from an offset on, verified before the last piece. */
  async *download(request: DownloadFileRequest): AsyncGenerator<DownloadFileResponse> {
    const { blobs } = this.#options
    const stored = await blobs.stat(request.digest)
    if (stored === undefined) {
      const metadata = { digest: request.digest }
      throw new Failure(Code.NOT_FOUND, 'FILE_NOT_FOUND', `there is no file ${request.digest}`, { metadata })
    }
    const sizeBytes = BigInt(stored.sizeBytes)
    if (request.offset > sizeBytes) {
      const message = `the file has ${sizeBytes} bytes, and ${request.offset} lies behind them`
      throw new Failure(Code.OUT_OF_RANGE, 'OFFSET_OUT_OF_RANGE', message)
    }
    let offset = request.offset
    for await (const chunk of blobs.read(request.digest, { offset: Number(offset) })) {
      yield create(DownloadFileResponseSchema, { offset, chunk, sizeBytes })
      offset += BigInt(chunk.length)
    }
    // An empty answer would not tell the size.
    if (offset === request.offset) yield create(DownloadFileResponseSchema, { offset, sizeBytes })
  }

  async #append(staged: StagedBlob, request: UploadFileRequest): Promise<void> {
    const { maxFileBytes } = this.#options
    if (request.offset + BigInt(request.chunk.length) > BigInt(maxFileBytes)) {
      const message = `a file has ${maxFileBytes} bytes at most`
      const violations = [{ field: 'offset', description: message }]
      throw new Failure(Code.INVALID_ARGUMENT, 'FILE_TOO_LARGE', message, { violations })
    }
    await staged.append(Number(request.offset), request.chunk)
  }

  async #commit(uploadId: string, staged: StagedBlob, expected: string): Promise<Upload> {
    const { digest, sizeBytes } = await staged.commit(expected)
    await this.#options.database
      .insertInto('uploads')
      .values({ upload_id: uploadId, digest, size_bytes: sizeBytes, time_micros: Number(this.#options.nowMicros()) })
      .onConflict((conflict) => conflict.column('upload_id').doNothing())
      .execute()
    return create(UploadSchema, { uploadId, receivedBytes: BigInt(sizeBytes), digest })
  }

  async #complete(uploadId: string): Promise<Upload | undefined> {
    const row = await this.#options.database
      .selectFrom('uploads')
      .selectAll()
      .where('upload_id', '=', uploadId)
      .executeTakeFirst()
    // A file that was lost or cut on disk is uploaded anew, and so repaired.
    const stored = row && (await this.#options.blobs.stat(row.digest))
    if (row === undefined || stored?.sizeBytes !== row.size_bytes) return undefined
    return create(UploadSchema, { uploadId, receivedBytes: BigInt(row.size_bytes), digest: row.digest })
  }
}

function answerAgain(complete: Upload, digest: string): Upload {
  if (digest === '' || digest === complete.digest) return complete
  const message = `the upload ${complete.uploadId} is complete and holds ${complete.digest}: choose a new upload id`
  throw new Failure(Code.FAILED_PRECONDITION, 'UPLOAD_COMPLETE', message, { metadata: { digest: complete.digest } })
}
