/** From a version's name to its files: from the registry the first time, from this server's disk from then on. */
import { link, mkdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { versionDigest } from '@slipway/models'
import type { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { type Client, Code, Failure } from '@slipway/rpc'
import { type Manifest, type ModelSource, sizeOf, splitVersionName, type VersionFiles } from '../model-source.ts'
import { refusal } from '../refusals.ts'
import type { ArtifactCache, FetchArtifact } from './artifact-cache.ts'
import type { RegistryState } from './registry-state.ts'

const MANIFEST_TIMEOUT_MS = 10_000

/** Gives a file from the registry. */
export function fetchFromRegistry(registry: Client<typeof RegistryService>): FetchArtifact {
  return async function* (digest, offset) {
    for await (const { chunk } of registry.downloadFile({ digest, offset: BigInt(offset) })) yield chunk
  }
}

/** What a source needs from around it. */
export interface RegistrySourceOptions {
  readonly registry: Pick<Client<typeof RegistryService>, 'getVersion'>
  readonly state: RegistryState
  readonly cache: ArtifactCache
  /** Folder in which versions with several files are laid out. */
  readonly layoutDirectory: string
}

/** See the top of this file. */
export class RegistrySource implements ModelSource {
  readonly #options: RegistrySourceOptions

  constructor(options: RegistrySourceOptions) {
    this.#options = options
  }

  sizeBytes(name: string): number | undefined {
    const manifest = this.#options.state.manifest(name)
    return manifest && sizeOf(manifest.files)
  }

  async files(name: string): Promise<VersionFiles> {
    const { cache } = this.#options
    const { model, number } = splitVersionName(name)
    const manifest = await this.#manifest(name)
    return {
      ...manifest,
      name,
      model,
      number,
      read: async (path) => {
        const file = manifest.files.find((each) => each.path === path)
        if (file === undefined) throw new Failure(Code.NOT_FOUND, 'UNKNOWN_FILE', `${name} has no file ${path}`)
        return await cache.read(file)
      },
      layOut: () => this.#layOut(name, manifest),
    }
  }

  /** A file that the cache has dropped takes its room as long as it is linked here. */
  async letGo(name: string): Promise<void> {
    const manifest = this.#options.state.manifest(name)
    if (manifest !== undefined) await rm(this.#folderOf(manifest), { recursive: true, force: true })
  }

  /** A version never changes, so the registry is asked once. */
  async #manifest(name: string): Promise<Manifest> {
    const { registry, state } = this.#options
    const known = state.manifest(name)
    if (known !== undefined) return known
    const version = await registry.getVersion({ name }, { timeoutMs: MANIFEST_TIMEOUT_MS })
    const { digest, files } = version
    if (versionDigest(version) !== digest) throw refusal.wrongManifest(name, digest)
    const manifest: Manifest = {
      digest,
      files: files.map((file) => ({ path: file.path, sizeBytes: Number(file.sizeBytes), digest: file.digest })),
    }
    state.setManifest(name, manifest)
    return manifest
  }

  async #layOut(name: string, manifest: Manifest): Promise<string> {
    const { cache } = this.#options
    const folder = this.#folderOf(manifest)
    for (const file of manifest.files) {
      if (file.path.split('/').some((part) => part === '..' || part === '.'))
        throw new Failure(Code.FAILED_PRECONDITION, 'BAD_PATH', `${name} has a file that would lie elsewhere`)
      const target = join(folder, file.path)
      await cache.read(file)
      await mkdir(dirname(target), { recursive: true })
      await rm(target, { force: true })
      await link(await cache.ensure(file), target)
    }
    return folder
  }
  #folderOf({ digest }: Manifest): string {
    return join(this.#options.layoutDirectory, digest.replace('sha256:', ''))
  }
}
