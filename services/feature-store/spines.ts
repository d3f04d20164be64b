/** Spines on their way in: Parquet files in content-addressed storage. */
import { create } from '@bufbuild/protobuf'
import {
  type UploadSpineRequest,
  type UploadSpineResponse,
  UploadSpineResponseSchema,
} from '@slipway/proto/slipway/features/v1/feature_store_service'
import { Failure } from '@slipway/rpc'
import type { BlobStore, StagedBlob } from '@slipway/storage'

/** What spines need. */
export interface SpinesOptions {
  readonly blobs: BlobStore
  /** Largest spine, in bytes. */
  readonly maxBytes: number
}

/** Takes pieces until the stream ends; a message with a digest completes the upload. */
export async function receiveSpine(
  requests: AsyncIterable<UploadSpineRequest>,
  options: SpinesOptions,
): Promise<UploadSpineResponse> {
  let uploadId = ''
  let staged: StagedBlob | undefined
  for await (const request of requests) {
    if (staged === undefined) {
      uploadId = request.uploadId
      if (uploadId === '') throw Failure.invalid('upload_id', 'must be set on the first message')
      staged = await options.blobs.stage(uploadId)
    } else if (request.uploadId !== '' && request.uploadId !== uploadId) {
      throw Failure.invalid('upload_id', `a stream carries one upload, and this one carries ${uploadId}`)
    }
    if (request.offset + BigInt(request.chunk.length) > BigInt(options.maxBytes)) {
      throw Failure.invalid('offset', `a spine has ${options.maxBytes} bytes at most`)
    }
    if (request.chunk.length > 0) await staged.append(Number(request.offset), request.chunk)
    if (request.digest !== '') {
      const { digest, sizeBytes } = await staged.commit(request.digest)
      return create(UploadSpineResponseSchema, { receivedBytes: BigInt(sizeBytes), digest })
    }
  }
  return create(UploadSpineResponseSchema, { receivedBytes: BigInt(staged?.receivedBytes ?? 0) })
}
