/**
 * Downloads files from the registry.
 *
 * 1. What has arrived stays in `{path}.part`; a process that died in the middle continues there.
 * 2. The file appears under its name only after its digest was found right; until then there is none.
 */
import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { type Client, Code, Failure } from '@slipway/rpc'
import { retryUnavailable } from './retry.ts'
import type { TransferOptions } from './upload.ts'

/** Downloads the file of a digest to a path. DATA_LOSS when what arrived is not what was asked for. */
export async function downloadFile(
  registry: Client<typeof RegistryService>,
  digest: string,
  path: string,
  options: TransferOptions = {},
): Promise<void> {
  const partPath = `${path}.part`
  await mkdir(dirname(path), { recursive: true })
  const part = await open(partPath, 'a+')
  try {
    const hash = createHash('sha256')
    const state: Part = { file: part, hash, receivedBytes: await hashExisting(partPath, hash) }
    await retryUnavailable(() => receive(registry, digest, state, options), options)
    await part.sync()
    const found = `sha256:${hash.digest('hex')}`
    if (found !== digest) {
      await rm(partPath, { force: true })
      throw new Failure(Code.DATA_LOSS, 'DIGEST_MISMATCH', `${path}: expected ${digest}, received ${found}`)
    }
  } finally {
    await part.close()
  }
  await rename(partPath, path)
}

interface Part {
  readonly file: FileHandle
  readonly hash: Hash
  receivedBytes: number
}

async function hashExisting(path: string, hash: Hash): Promise<number> {
  let length = 0
  for await (const chunk of createReadStream(path)) {
    hash.update(chunk as Buffer)
    length += (chunk as Buffer).length
  }
  return length
}

async function receive(
  registry: Client<typeof RegistryService>,
  digest: string,
  part: Part,
  options: TransferOptions,
): Promise<void> {
  const { signal } = options
  const request = { digest, offset: BigInt(part.receivedBytes) }
  for await (const { offset, chunk, sizeBytes } of registry.downloadFile(request, signal && { signal })) {
    if (Number(offset) !== part.receivedBytes) {
      throw new Failure(Code.DATA_LOSS, 'GAP_IN_DOWNLOAD', `expected offset ${part.receivedBytes}, received ${offset}`)
    }
    await part.file.appendFile(chunk)
    part.hash.update(chunk)
    part.receivedBytes += chunk.length
    options.onProgress?.(part.receivedBytes, Number(sizeBytes))
  }
}
