/** What the residency policy is shown: everything that is known of every version, at one moment. */
import type { LoadWaiters } from './load-waiters.ts'
import { splitVersionName, versionName } from './model-source.ts'
import type { VersionState } from './model-table.ts'
import type { VersionSnapshot, Want } from './residency.ts'
import type { ResidencyOptions } from './residency-loop.ts'

/** What is remembered of the loads of one version. */
export interface LoadRecord {
  /** Loads that failed in a row. */
  readonly failures: number
  failedMs: number
  /** Memory that it took when it was loaded last, where that was measured. */
  readonly memoryBytes: number | undefined
}

/** Where a snapshot is taken from. */
export interface SnapshotView extends Pick<ResidencyOptions, 'wanted' | 'models' | 'source' | 'estimateBytes'> {
  readonly waiters: LoadWaiters
  /** How often each version is held. */
  readonly holds: ReadonlyMap<string, number>
  readonly records: ReadonlyMap<string, LoadRecord>
}

/** Takes it. */
export function takeSnapshot(view: SnapshotView): VersionSnapshot[] {
  const { wanted, models, waiters, holds } = view
  const wants = new Map<string, Want[]>()
  for (const name of new Set(Object.values(wanted.aliases))) wants.set(name, ['alias'])
  for (const [name, by] of Object.entries(wanted.asked)) wants.set(name, [...(wants.get(name) ?? []), by])
  const names = new Set([...wants.keys(), ...waiters.names, ...holds.keys()])
  for (const { model, version } of models) names.add(versionName(model, version))
  return [...names].map((name) => describe(name, wants.get(name) ?? [], view))
}

function describe(name: string, wantedBy: readonly Want[], view: SnapshotView): VersionSnapshot {
  const { models, waiters, holds, records, source, estimateBytes } = view
  const { model, number } = splitVersionName(name)
  const found = models.get(model, number)
  const record = records.get(name)
  const served = found?.kind === 'ready' || found?.kind === 'unloading' ? found.served : undefined
  const fileBytes = served?.sizeBytes ?? source.sizeBytes(name)
  const estimate = fileBytes === undefined ? undefined : estimateBytes(fileBytes)
  return {
    name,
    model,
    state: stateOf(found),
    wantedBy,
    isHeld: holds.has(name),
    isBusy: (served?.counts.queued ?? 0) > 0,
    memoryBytes: served?.memoryBytes ?? record?.memoryBytes ?? estimate,
    lastUsedMs: served?.lastUsedMs ?? (found?.kind === 'unloaded' ? found.unloadedTimeMs : 0),
    demandedMs: waiters.sinceMs(name),
    failures: record?.failures ?? 0,
    failedMs: record?.failedMs ?? 0,
  }
}

function stateOf(found: VersionState | undefined): VersionSnapshot['state'] {
  if (found === undefined) return 'absent'
  return found.kind === 'loading' && found.isMeasured === false ? 'measuring' : found.kind
}
