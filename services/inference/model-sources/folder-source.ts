/** Versions out of a folder. A version's digest is taken of its files when it is loaded, and every read is checked against it. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { versionDigest } from '@slipway/models'
import { ModelVersionSchema } from '@slipway/proto/slipway/registry/v1/model'
import { Code, Failure } from '@slipway/rpc'
import type { Manifest, ModelSource, VersionFile, VersionFiles } from '../model-source.ts'
import { refusal } from '../refusals.ts'
import type { FoundVersion } from './folder-scan.ts'

/** See the top of this file. */
export class FolderSource implements ModelSource {
  readonly #find: (name: string) => FoundVersion | undefined
  readonly #manifests = new Map<string, { readonly fingerprint: string; readonly manifest: Promise<Manifest> }>()

  /** The source asks for a version as it lies in the folder now. */
  constructor(find: (name: string) => FoundVersion | undefined) {
    this.#find = find
  }

  sizeBytes(name: string): number | undefined {
    return this.#find(name)?.files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  }

  async files(name: string): Promise<VersionFiles> {
    const found = this.#find(name)
    if (found === undefined) {
      this.#manifests.delete(name)
      throw refusal.unknownVersion(...splitForMessage(name))
    }
    const manifest = await this.#manifest(found)
    const { model, number, directory } = found
    return {
      ...manifest,
      name,
      model,
      number,
      read: async (path) => {
        const file = manifest.files.find((each) => each.path === path)
        if (file === undefined) throw new Failure(Code.NOT_FOUND, 'UNKNOWN_FILE', `${name} has no file ${path}`)
        const bytes = await readFile(join(directory, path)).catch((error: unknown) => {
          throw changed(name, path, error)
        })
        if (digestOf(bytes) !== file.digest) throw changed(name, path)
        return bytes
      },
      layOut: async () => {
        for (const { path, digest } of manifest.files) {
          if ((await digestOfFile(join(directory, path))) !== digest) throw changed(name, path)
        }
        return directory
      },
    }
  }

  async letGo(): Promise<void> {}

  /** Taken once for each state of the files. */
  async #manifest(found: FoundVersion): Promise<Manifest> {
    const known = this.#manifests.get(found.name)
    if (known?.fingerprint === found.fingerprint) return await known.manifest
    const manifest = describe(found)
    this.#manifests.set(found.name, { fingerprint: found.fingerprint, manifest })
    manifest.catch(() => this.#manifests.delete(found.name))
    return await manifest
  }
}

async function describe({ name, directory, files }: FoundVersion): Promise<Manifest> {
  const described: VersionFile[] = []
  for (const { path, sizeBytes } of files) {
    const digest = await digestOfFile(join(directory, path)).catch((error: unknown) => {
      throw changed(name, path, error)
    })
    described.push({ path, sizeBytes, digest })
  }
  const content = { files: described.map((file) => ({ ...file, sizeBytes: BigInt(file.sizeBytes) })) }
  return { digest: versionDigest(create(ModelVersionSchema, content)), files: described }
}

function splitForMessage(name: string): [string, string] {
  const [, model = name, , number = ''] = name.split('/')
  return [model, number]
}

function changed(name: string, path: string, cause?: unknown): Failure {
  return new Failure(Code.DATA_LOSS, 'DIGEST_MISMATCH', `${path} of ${name} has changed since it was looked at`, {
    cause,
  })
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

async function digestOfFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
  return `sha256:${hash.digest('hex')}`
}
