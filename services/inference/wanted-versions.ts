/** Who asked for a version, other than through an alias. */
export type AskedBy = 'endpoint' | 'request'

/**
 * The versions that this server should know, and those of them that it let go for now. Promises:
 *
 * 1. What was said here before `flush` was called is kept when it has resolved, as far as this place keeps anything.
 * 2. A version that an alias points to or that was asked for stays known until it is no longer pointed to or asked for.
 */
export interface WantedVersions {
  /** Aliases, `models/{model}/aliases/{alias}`, and the versions that they point to. */
  readonly aliases: Readonly<Record<string, string>>
  /** Versions that somebody asked for. */
  readonly asked: Readonly<Record<string, AskedBy>>
  /** Versions that were let go for now: they come back when a caller asks. */
  readonly unloaded: readonly string[]
  /** Says who asked for a version; undefined: nobody does any more. */
  setAsked(version: string, by: AskedBy | undefined): void
  setUnloaded(version: string, isUnloaded: boolean): void
  /** Forgets what is kept of versions that are not needed. */
  prune(isNeeded: (version: string) => boolean): void
  flush(): Promise<void>
}
