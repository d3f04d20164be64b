import { randomUUID } from 'node:crypto'
import type { MessageInitShape } from '@bufbuild/protobuf'
import type { ModelVersion } from '@slipway/proto/slipway/registry/v1/model'
import type { CreateVersionRequestSchema, RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import type { Client } from '@slipway/rpc'
import { BACKGROUND_FILE } from './background.ts'
import { type Example, exampleFiles } from './example.ts'
import { bytesSource, type FileSource, type RegistryFiles, type TransferOptions, uploadFile } from './files.ts'
import { retryUnavailable } from './retry.ts'

type Given = 'parent' | 'files' | 'requestId' | '$typeName' | '$unknown'

/** What a version is made of: its files by path (`model.onnx` or `pipeline.json` among them), and everything declared with them. */
export interface NewVersion extends Omit<MessageInitShape<typeof CreateVersionRequestSchema>, Given> {
  /** `models/{model}`. */
  readonly parent: string
  readonly files: Readonly<Record<string, Uint8Array | FileSource>>
  /** Rows to explain predictions with, as `drawBackground` makes them; kept among the files. */
  readonly background?: Uint8Array
  /** What inference has the version answer before callers get it; it becomes files of the version. */
  readonly example?: Example
  /** Names the wish: repeated with the same id it makes one version. A new one unless given. */
  readonly requestId?: string
}

/** Uploads the files and registers the version; a step that fails in passing is tried again, and counts once. */
export async function registerVersion(
  registry: RegistryFiles & Pick<Client<typeof RegistryService>, 'createVersion'>,
  version: NewVersion,
  options: TransferOptions = {},
): Promise<ModelVersion> {
  const { files: given, background, example, requestId = randomUUID(), ...declared } = version
  const files = {
    ...given,
    ...(background === undefined ? {} : { [BACKGROUND_FILE]: background }),
    ...(example === undefined ? {} : exampleFiles(example)),
  }
  const { uploadId: _, ...patient } = options
  const uploaded: { path: string; digest: string; sizeBytes: bigint }[] = []
  for (const [path, content] of Object.entries(files)) {
    const source = content instanceof Uint8Array ? bytesSource(content) : content
    const { digest, sizeBytes } = await uploadFile(registry, source, patient)
    uploaded.push({ path, digest, sizeBytes: BigInt(sizeBytes) })
  }
  const create = () => registry.createVersion({ ...declared, requestId, files: uploaded })
  return await retryUnavailable(create, options)
}
