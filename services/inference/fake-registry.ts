/** A registry for tests: versions, aliases and files in memory, over the real wire. */
import { createHash } from 'node:crypto'
import { create } from '@bufbuild/protobuf'
import { versionDigest } from '@slipway/models'
import { type ModelVersion, ModelVersionSchema } from '@slipway/proto/slipway/registry/v1/model'
import {
  type RegistryChange,
  RegistryChangeSchema,
  RegistryService,
} from '@slipway/proto/slipway/registry/v1/registry_service'
import { Code, createServer, Failure, implement } from '@slipway/rpc'

const CHUNK_BYTES = 4096

/** A fake registry that runs. */
export interface FakeRegistry {
  readonly address: string
  /** Digests of the files that were downloaded, in order. */
  readonly downloads: string[]
  /** Registers a version; what is downloaded for its file can be made another content than was registered. */
  addVersion(
    name: string,
    model: Uint8Array,
    downloaded?: Uint8Array,
    others?: Readonly<Record<string, Uint8Array>>,
  ): ModelVersion
  /** Points an alias; no version removes it. */
  setAlias(alias: string, version: string): void
  stop(): Promise<void>
}

/** The digest of content. */
export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

/** Starts a fake registry on a port, by default a free one. */
export async function startFakeRegistry(port = 0): Promise<FakeRegistry> {
  const versions = new Map<string, ModelVersion>()
  const files = new Map<string, Uint8Array>()
  const changes: RegistryChange[] = []
  const downloads: string[] = []
  let wake: (() => void)[] = []
  const stopping = new AbortController()
  const append = (change: RegistryChange['change']): void => {
    changes.push(create(RegistryChangeSchema, { revision: BigInt(changes.length + 1), change }))
    for (const waiter of wake.splice(0)) waiter()
  }
  const registry = implement(RegistryService, {
    async getVersion({ name }) {
      const version = versions.get(name)
      if (version === undefined) throw new Failure(Code.NOT_FOUND, 'UNKNOWN_VERSION', `${name} is not there`)
      return version
    },
    async *downloadFile({ digest, offset }) {
      downloads.push(digest)
      const content = files.get(digest)
      if (content === undefined) throw new Failure(Code.NOT_FOUND, 'UNKNOWN_FILE', `${digest} is not there`)
      for (let at = Number(offset); at < content.length; at += CHUNK_BYTES) {
        yield { offset: BigInt(at), chunk: content.subarray(at, at + CHUNK_BYTES), sizeBytes: BigInt(content.length) }
      }
    },
    async *watch({ afterRevision }, { signal }) {
      if (afterRevision > changes.length)
        throw new Failure(Code.OUT_OF_RANGE, 'REVISION_OUT_OF_RANGE', 'another registry')
      let seen = Number(afterRevision)
      while (!signal.aborted && !stopping.signal.aborted) {
        const change = changes[seen]
        const latestRevision = BigInt(changes.length)
        if (change !== undefined) {
          seen++
          yield { change, latestRevision }
          continue
        }
        yield { latestRevision }
        await new Promise<void>((resolve) => {
          wake.push(resolve)
          signal.addEventListener('abort', () => resolve(), { once: true })
        })
      }
    },
  })
  const server = createServer({ implementations: [registry], listen: { host: '127.0.0.1', port } })
  const { address } = await server.start()
  return {
    address,
    downloads,
    addVersion(name, model, downloaded = model, others = {}) {
      const listed = Object.entries({ 'model.onnx': model, ...others }).map(([path, bytes]) => {
        const digest = digestOf(bytes)
        files.set(digest, bytes === model ? downloaded : bytes)
        return { path, sizeBytes: BigInt(bytes.length), digest }
      })
      const content = create(ModelVersionSchema, { files: listed, lineage: { codeCommit: name } })
      const version: ModelVersion = { ...content, name, digest: versionDigest(content) }
      versions.set(name, version)
      append({ case: 'version', value: version })
      return version
    },
    setAlias(alias, version) {
      append({ case: 'alias', value: { $typeName: 'slipway.registry.v1.Alias', ...emptyAlias, name: alias, version } })
    },
    stop: async () => {
      stopping.abort()
      for (const waiter of wake.splice(0)) waiter()
      wake = []
      await server.drain({ graceMs: 500 })
    },
  }
}

const emptyAlias = { digest: '', generation: 1n, etag: '', actor: '', reason: '' }
