/** From a version's name to its verified model: manifest and files from the registry, or from this server's disk. */
import { link, mkdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { versionDigest } from '@slipway/models'
import { OnnxError, type OnnxModel, readModel } from '@slipway/onnx'
import type { RegistryService } from '@slipway/proto/slipway/registry/v1/registry_service'
import { type Client, Failure } from '@slipway/rpc'
import type { ArtifactCache, FetchArtifact } from './artifact-cache.ts'
import { refusal } from './refusals.ts'
import type { Manifest, RegistryState } from './registry-state.ts'
import type { VerifiedModel } from './served-version.ts'
import { describeSignature } from './signature.ts'

const MODEL_FILE = 'model.onnx'
const MANIFEST_TIMEOUT_MS = 10_000

/** Gives a file from the registry. */
export function fetchFromRegistry(registry: Client<typeof RegistryService>): FetchArtifact {
  return async function* (digest, offset) {
    for await (const { chunk } of registry.downloadFile({ digest, offset: BigInt(offset) })) yield chunk
  }
}

/** Splits `models/{model}/versions/{number}`. */
export function splitVersionName(name: string): { readonly model: string; readonly number: string } {
  const [, model, number] = /^models\/([^/]+)\/versions\/([1-9]\d*)$/.exec(name) ?? []
  if (model === undefined || number === undefined) throw Failure.invalid('name', `'${name}' names no version`)
  return { model, number }
}

/** What a source needs from around it. */
export interface ModelSourceOptions {
  readonly registry: Client<typeof RegistryService>
  readonly state: RegistryState
  readonly cache: ArtifactCache
  /** Folder in which versions with several files are laid out. */
  readonly layoutDirectory: string
}

/** Finds, fetches and verifies models. */
export class ModelSource {
  readonly #options: ModelSourceOptions

  constructor(options: ModelSourceOptions) {
    this.#options = options
  }

  /**
   * The manifest of a version, from the registry the first time: a version never changes, so it is asked for once. DATA_LOSS
   * when what the registry says of the version is not what its digest was taken of.
   */
  async manifest(name: string): Promise<Manifest> {
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

  /** The verified model of a version. FAILED_PRECONDITION when it is not one that can be served, DATA_LOSS when its bytes are wrong. */
  async open(name: string): Promise<VerifiedModel> {
    const { cache } = this.#options
    const { model, number } = splitVersionName(name)
    const manifest = await this.manifest(name)
    const file = manifest.files.find(({ path }) => path === MODEL_FILE)
    if (file === undefined) throw notServable(name, `it has no ${MODEL_FILE}`)
    const described = describe(name, await cache.read(file))
    const hasBf16 = [...described.inputs, ...described.outputs].some(({ datatype }) => datatype === 'BF16')
    if (hasBf16) throw notServable(name, 'its signature has BF16, which the runtime cannot carry')
    const isOneFile = described.externalFiles.length === 0
    return {
      name,
      model,
      number,
      digest: manifest.digest,
      sizeBytes: manifest.files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      signature: describeSignature(described.inputs, described.outputs),
      read: isOneFile ? () => cache.read(file) : () => this.#layOut(manifest),
    }
  }

  /** Puts the verified files of a version into one folder, where its model finds its weights; returns the model's path. */
  async #layOut(manifest: Manifest): Promise<string> {
    const { cache, layoutDirectory } = this.#options
    const folder = join(layoutDirectory, manifest.digest.replace('sha256:', ''))
    for (const file of manifest.files) {
      const target = join(folder, file.path)
      await cache.read(file)
      await mkdir(dirname(target), { recursive: true })
      await rm(target, { force: true })
      await link(await cache.ensure(file), target)
    }
    return join(folder, MODEL_FILE)
  }
}

function describe(name: string, bytes: Uint8Array): OnnxModel {
  try {
    return readModel(bytes)
  } catch (cause) {
    if (cause instanceof OnnxError) throw notServable(name, cause.message, cause)
    throw cause
  }
}

function notServable(name: string, why: string, cause?: unknown): Failure {
  const { model, number } = splitVersionName(name)
  return refusal.loadFailed(model, number, why, cause)
}
