/** Moves rows from the journal into Parquet parts, in the background and before every training set. */
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Journal, Part } from './journal.ts'
import type { OfflineStore } from './offline-store/offline-store.ts'
import type { ViewVersion } from './view.ts'

/** What `Parts` works on. */
export interface PartsOptions {
  readonly journal: Journal
  readonly offline: OfflineStore
  /** File of the journal. */
  readonly databasePath: string
  /** Folder of the parts. */
  readonly directory: string
  /** The newest versions of all views. */
  readonly views: () => readonly ViewVersion[]
  /** Rows of a view in the journal from which on they become a part in the background. */
  readonly flushRows: number
  readonly onError: (error: unknown) => void
}

/** The parts of all views. */
export class Parts {
  readonly #options: PartsOptions
  #turn: Promise<unknown> = Promise.resolve()

  /** Removes files that a killed process left behind without recording them. */
  constructor(options: PartsOptions) {
    this.#options = options
    mkdirSync(options.directory, { recursive: true })
    const recorded = options.journal.partPaths()
    for (const file of readdirSync(options.directory)) {
      if (!recorded.has(file)) rmSync(join(options.directory, file), { force: true })
    }
  }

  /** Folder of the parts. */
  get directory(): string {
    return this.#options.directory
  }

  /** Brings everything that was accepted so far into parts; gives the revision up to which, and the parts. */
  async complete(views: readonly ViewVersion[]): Promise<{ revision: bigint; parts: Part[] }> {
    const { journal } = this.#options
    const revision = journal.revision()
    for (const view of views) await this.#flush(view, revision)
    return { revision, parts: views.flatMap(({ tableId }) => journal.parts(tableId)) }
  }

  /** Looks for views with much in the journal until the signal. */
  async run(everyMs: number, signal: AbortSignal): Promise<void> {
    const { journal, views, flushRows, onError } = this.#options
    while (!signal.aborted) {
      const waiting = new Set(
        journal
          .pending()
          .filter(({ rowCount }) => rowCount >= flushRows)
          .map(({ tableId }) => tableId),
      )
      for (const view of views()) {
        if (waiting.has(view.tableId)) await this.#flush(view, journal.revision()).catch(onError)
      }
      await delay(everyMs, undefined, { signal }).catch(() => undefined)
    }
  }

  /** Removes all parts of a view. */
  drop(tableId: number): void {
    for (const path of this.#options.journal.drop(tableId)) rmSync(join(this.#options.directory, path), { force: true })
  }

  async #flush(view: ViewVersion, lastRevision: bigint): Promise<void> {
    const { journal, offline, databasePath, directory } = this.#options
    const done = this.#turn.then(async () => {
      const part = await offline.flush({ databasePath, view, lastRevision, directory })
      if (part !== undefined) journal.replace(part)
    })
    this.#turn = done.catch(() => undefined)
    await done
  }
}
