/**
 * Moves rows from the journal into Parquet parts, in the background and before every training set.
 *
 * 1. A part has the columns of the view's newest version, whichever version is asked for: no value is left behind.
 * 2. A part that is finished when its view is gone is not recorded.
 * 3. A file that no record names is a leftover of a process that was killed; it goes at the next start.
 */
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Journal, Part } from './journal.ts'
import type { OfflineStore } from './offline-store/offline-store.ts'
import { createTurns } from './turns.ts'
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
  readonly #turns = createTurns()

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

  /**
   * Brings everything that was accepted so far of some views into parts; gives the revision up to which, and the parts.
   * Rejects with the signal's reason when it is aborted before its turn has come.
   */
  async complete(
    tableIds: readonly number[],
    signal?: AbortSignal,
  ): Promise<{ readonly revision: bigint; readonly parts: readonly Part[] }> {
    const { journal } = this.#options
    const revision = journal.revision()
    for (const tableId of tableIds) await this.#flush(tableId, revision, signal)
    return { revision, parts: tableIds.flatMap((tableId) => journal.parts(tableId)) }
  }

  /** Looks for views with much in the journal until the signal. */
  async run(everyMs: number, signal: AbortSignal): Promise<void> {
    const { journal, flushRows, onError } = this.#options
    while (!signal.aborted) {
      for (const { tableId, rowCount } of journal.pending()) {
        if (rowCount < flushRows) continue
        await this.#flush(tableId, journal.revision(), signal).catch((error: unknown) => {
          if (!signal.aborted) onError(error)
        })
      }
      await delay(everyMs, undefined, { signal }).catch(() => undefined)
    }
  }

  /** Removes the rows and parts of a view that is gone. */
  drop(tableId: number): void {
    const { journal, directory } = this.#options
    for (const path of journal.drop(tableId)) rmSync(join(directory, path), { force: true })
  }

  async #flush(tableId: number, lastRevision: bigint, signal?: AbortSignal): Promise<void> {
    const { journal, offline, databasePath, directory } = this.#options
    await this.#turns.take(async () => {
      if (!journal.isPending(tableId, lastRevision)) return
      const view = this.#view(tableId)
      if (view === undefined) return
      const part = await offline.flush({ databasePath, view, lastRevision, directory })
      if (part === undefined) return
      if (this.#view(tableId) === undefined) rmSync(join(directory, part.path), { force: true })
      else journal.replace(part)
    }, signal)
  }

  #view(tableId: number): ViewVersion | undefined {
    return this.#options.views().find((view) => view.tableId === tableId)
  }
}
