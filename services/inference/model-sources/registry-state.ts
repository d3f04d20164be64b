/**
 * What this server knows of the registry, kept on disk, so that it serves after a restart without asking anybody: the aliases,
 * the versions that it was asked to hold, and what their files are.
 *
 * 1. A file that is there is whole: it is written beside, synced and renamed, and its folder synced.
 * 2. `flush` resolves when everything changed before it is on disk.
 * 3. A file that cannot be read is as good as none: the registry tells everything again.
 */
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Manifest } from '../model-source.ts'
import type { AskedBy, WantedVersions } from '../wanted-versions.ts'
import { syncDirectory } from './artifact-cache.ts'

interface Contents {
  revision: string
  aliases: Record<string, string>
  asked: Record<string, AskedBy>
  unloaded: Record<string, true>
  manifests: Record<string, Manifest>
}

const EMPTY: Contents = { revision: '0', aliases: {}, asked: {}, unloaded: {}, manifests: {} }

/** See the top of this file. */
export class RegistryState implements WantedVersions {
  readonly #path: string
  #contents: Contents
  #isDirty = false
  #writing: Promise<void> | undefined

  private constructor(path: string, contents: Contents) {
    this.#path = path
    this.#contents = contents
  }

  static async open(path: string): Promise<RegistryState> {
    await mkdir(dirname(path), { recursive: true })
    return new RegistryState(path, await readContents(path))
  }

  /** The last change of the registry that is in here. */
  get revision(): bigint {
    return BigInt(this.#contents.revision)
  }

  /** Aliases, `models/{model}/aliases/{alias}`, and the versions that they point to. */
  get aliases(): Readonly<Record<string, string>> {
    return this.#contents.aliases
  }

  get asked(): Readonly<Record<string, AskedBy>> {
    return this.#contents.asked
  }

  get unloaded(): readonly string[] {
    return Object.keys(this.#contents.unloaded)
  }

  manifest(version: string): Manifest | undefined {
    return this.#contents.manifests[version]
  }

  /** Digests of the files of the versions for which something holds. */
  fileDigests(isHeld: (version: string) => boolean): ReadonlySet<string> {
    const held = Object.entries(this.#contents.manifests).filter(([version]) => isHeld(version))
    return new Set(held.flatMap(([, { files }]) => files.map(({ digest }) => digest)))
  }

  setAlias(alias: string, version: string | undefined): void {
    if (version === undefined) delete this.#contents.aliases[alias]
    else this.#contents.aliases[alias] = version
    this.#changed()
  }

  setAsked(version: string, by: AskedBy | undefined): void {
    if (this.#contents.asked[version] === by) return
    if (by === undefined) delete this.#contents.asked[version]
    else this.#contents.asked[version] = by
    this.#changed()
  }

  setUnloaded(version: string, isUnloaded: boolean): void {
    if ((this.#contents.unloaded[version] ?? false) === isUnloaded) return
    if (isUnloaded) this.#contents.unloaded[version] = true
    else delete this.#contents.unloaded[version]
    this.#changed()
  }

  setManifest(version: string, manifest: Manifest): void {
    this.#contents.manifests[version] = manifest
    this.#changed()
  }

  prune(isNeeded: (version: string) => boolean): void {
    for (const version of Object.keys(this.#contents.manifests)) {
      if (isNeeded(version)) continue
      delete this.#contents.manifests[version]
      this.#changed()
    }
  }

  setRevision(revision: bigint): void {
    this.#contents.revision = revision.toString()
    this.#changed()
  }

  /** Starts over with another registry. What was asked for is unknown there. */
  reset(): void {
    this.#contents = structuredClone(EMPTY)
    this.#changed()
  }

  async flush(): Promise<void> {
    while (this.#isDirty || this.#writing !== undefined) {
      this.#writing ??= this.#write()
      await this.#writing
    }
  }

  #changed(): void {
    this.#isDirty = true
  }

  async #write(): Promise<void> {
    this.#isDirty = false
    try {
      const partial = `${this.#path}.partial`
      const file = await open(partial, 'w')
      await file.writeFile(JSON.stringify(this.#contents))
      await file.sync()
      await file.close()
      await rename(partial, this.#path)
      await syncDirectory(dirname(this.#path))
    } catch (error) {
      this.#isDirty = true
      throw error
    } finally {
      this.#writing = undefined
    }
  }
}

async function readContents(path: string): Promise<Contents> {
  try {
    const parsed: unknown = JSON.parse(await readFile(path, 'utf8'))
    const { revision, aliases, asked, unloaded, manifests } = parsed as Partial<Contents>
    if (typeof revision !== 'string' || !/^\d+$/.test(revision)) return structuredClone(EMPTY)
    return {
      revision,
      aliases: aliases ?? {},
      asked: asked ?? {},
      unloaded: unloaded ?? {},
      manifests: manifests ?? {},
    }
  } catch {
    return structuredClone(EMPTY)
  }
}
