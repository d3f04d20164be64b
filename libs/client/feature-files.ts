/** Files on their way to and from the feature store: spines there, training sets back; both go on where they stopped. */
import { mkdir } from 'node:fs/promises'
import { dirname, isAbsolute, join, normalize } from 'node:path'
import { create } from '@bufbuild/protobuf'
import {
  bytesSource,
  downloadFile,
  fileSource,
  type RegistryFiles,
  type TransferOptions,
  uploadFile,
} from '@slipway/models'
import type { Dataset, FeatureStoreService } from '@slipway/proto/slipway/features/v1/feature_store_service'
import {
  DownloadFileResponseSchema,
  UploadFileResponseSchema,
  UploadSchema,
} from '@slipway/proto/slipway/registry/v1/registry_service'
import { type Client, Code, Failure } from '@slipway/rpc'

/** The calls of the feature store that carry files. */
export type FeatureFiles = Pick<
  Client<typeof FeatureStoreService>,
  'downloadDataset' | 'getSpineUpload' | 'uploadSpine'
>

/** Uploads the rows for which a training set is wanted, a Parquet file by path or its bytes; resolves with its digest. */
export async function uploadSpine(
  features: FeatureFiles,
  spine: string | Uint8Array,
  options: TransferOptions = {},
): Promise<string> {
  const source = typeof spine === 'string' ? await fileSource(spine) : bytesSource(spine)
  const { digest } = await uploadFile(spineUploads(features), source, options)
  return digest
}

/** Downloads the files of a training set into a folder, each checked against its digest; resolves with their paths. */
export async function downloadDataset(
  features: FeatureFiles,
  dataset: Pick<Dataset, 'files' | 'name'>,
  directory: string,
  options: TransferOptions = {},
): Promise<string[]> {
  const paths: string[] = []
  for (const { path, digest } of dataset.files) {
    const target = join(directory, insideOf(path))
    await mkdir(dirname(target), { recursive: true })
    await downloadFile(datasetDownloads(features, dataset.name, path), digest, target, options)
    paths.push(target)
  }
  return paths
}

/** A path that a server names must not leave the folder that the caller named. */
function insideOf(path: string): string {
  const plain = normalize(path)
  if (!isAbsolute(plain) && plain !== '..' && !plain.startsWith('../')) return plain
  throw new Failure(Code.DATA_LOSS, 'PATH_LEAVES_FOLDER', `a file of the dataset is named ${path}`)
}

/** The transfers of `@slipway/models` speak the registry's calls; here the feature store's stand behind them. */
function spineUploads(features: FeatureFiles): RegistryFiles {
  return {
    getUpload: async ({ uploadId = '' }, options) => create(UploadSchema, await standOf(features, uploadId, options)),
    uploadFile: async (requests, options) => {
      const { receivedBytes, digest } = await features.uploadSpine(
        requests as Parameters<FeatureFiles['uploadSpine']>[0],
        options,
      )
      return create(UploadFileResponseSchema, { upload: { receivedBytes, digest } })
    },
    downloadFile: () => {
      throw new TypeError('spines are not downloaded')
    },
  }
}

async function standOf(
  features: FeatureFiles,
  uploadId: string,
  options: Parameters<FeatureFiles['getSpineUpload']>[1],
) {
  try {
    const { receivedBytes, digest } = await features.getSpineUpload({ uploadId }, options)
    return { uploadId, receivedBytes, digest }
  } catch (error) {
    if (error instanceof Failure && error.code === Code.NOT_FOUND) return { uploadId }
    throw error
  }
}

function datasetDownloads(features: FeatureFiles, name: string, path: string): RegistryFiles {
  return {
    getUpload: () => Promise.reject(new TypeError('datasets are not uploaded')),
    uploadFile: () => Promise.reject(new TypeError('datasets are not uploaded')),
    downloadFile: async function* ({ offset = 0n }, options) {
      for await (const piece of features.downloadDataset({ name, path, offset }, options)) {
        const { offset: start, chunk, sizeBytes } = piece
        yield create(DownloadFileResponseSchema, { offset: start, chunk, sizeBytes })
      }
    },
  }
}
