import type { AskedBy, WantedVersions } from '../wanted-versions.ts'
import type { FoundVersion } from './folder-scan.ts'

/** Which versions of each model are served: the highest number, or all. */
export type VersionChoice = 'latest' | 'all'

/** The versions wanted of those that lie in a folder. The highest number of a model answers when none is named; nothing is kept. */
export class FolderWanted implements WantedVersions {
  readonly #alias: string
  readonly #choice: VersionChoice
  readonly #unloaded = new Set<string>()
  /** Models that were unloaded by name: they come back when they are loaded by name. */
  readonly #withdrawn = new Set<string>()
  #versions: ReadonlyMap<string, FoundVersion> = new Map()
  #asked = new Map<string, AskedBy>()
  aliases: Readonly<Record<string, string>> = {}

  constructor(alias: string, choice: VersionChoice) {
    this.#alias = alias
    this.#choice = choice
  }

  /** What lies in the folder now. */
  setVersions(versions: ReadonlyMap<string, FoundVersion>): void {
    this.#versions = versions
    this.#choose()
  }

  /** Wants nothing of a model, or again what the folder holds of it. */
  withdraw(model: string, isWithdrawn: boolean): void {
    if (isWithdrawn) this.#withdrawn.add(model)
    else this.#withdrawn.delete(model)
    this.#choose()
  }

  get asked(): Readonly<Record<string, AskedBy>> {
    return Object.fromEntries(this.#asked)
  }

  get unloaded(): readonly string[] {
    return [...this.#unloaded]
  }

  setAsked(version: string, by: AskedBy | undefined): void {
    if (by === undefined) this.#asked.delete(version)
    else this.#asked.set(version, by)
  }

  setUnloaded(version: string, isUnloaded: boolean): void {
    if (isUnloaded) this.#unloaded.add(version)
    else this.#unloaded.delete(version)
  }

  prune(): void {}

  async flush(): Promise<void> {}

  #choose(): void {
    const latest = new Map<string, FoundVersion>()
    for (const version of this.#versions.values()) {
      if (this.#withdrawn.has(version.model)) continue
      if (Number(version.number) > Number(latest.get(version.model)?.number ?? 0)) latest.set(version.model, version)
      if (this.#choice === 'all') this.#asked.set(version.name, 'request')
    }
    const aliasOf = (model: string): string => `models/${model}/aliases/${this.#alias}`
    this.aliases = Object.fromEntries([...latest].map(([model, { name }]) => [aliasOf(model), name]))
    const isThere = (name: string): boolean => {
      const version = this.#versions.get(name)
      return version !== undefined && !this.#withdrawn.has(version.model)
    }
    this.#asked = new Map([...this.#asked].filter(([name]) => isThere(name)))
  }
}
