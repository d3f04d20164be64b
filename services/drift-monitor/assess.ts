/** A look at a whole monitor: every version, every column. Pure; used when a look is due, and again for a report. */
import { create } from '@bufbuild/protobuf'
import { type Distribution, DistributionSchema, type Verdict } from '@slipway/proto/slipway/drift/v1/monitor'
import type { Baseline } from './baseline.ts'
import type { Column } from './column.ts'
import { type Policy, thresholdOf } from './policy.ts'
import { judge } from './verdict.ts'
import { type HourTraffic, type Pane, type WindowCounts, windowCounts } from './window.ts'

/** A version, and what was counted of it. */
export interface VersionPanes {
  readonly baseline: Baseline
  readonly panes: readonly Pane[]
}

/** What a look needs. */
export interface Snapshot {
  readonly versions: readonly VersionPanes[]
  /** First hour of which the endpoint has rows. */
  readonly firstHour: number
  readonly endHour: number
  readonly revision: number
  readonly policy: Policy
}

/** What a look found about one version. */
export interface VersionAssessment {
  readonly baseline: Baseline
  readonly window: WindowCounts
  readonly verdicts: readonly Verdict[]
  /** The version has rows in the newest block of the window, or too few came to tell. */
  readonly answering: boolean
}

/** Judges every watched column of every version with rows in the window. */
export function assess(snapshot: Snapshot): VersionAssessment[] {
  const { policy, endHour } = snapshot
  const startHour = endHour - policy.windowHours
  const inside = ({ hour }: Pane) => hour >= startHour && hour < endHour
  const present = snapshot.versions.filter(({ panes }) => panes.some(inside))
  const traffic = trafficOf(present)
  const newestBlock = endHour - policy.lookHours
  const isNewest = ({ hour }: { hour: number }) => hour >= newestBlock && hour < endHour
  const newestRows = traffic.filter(isNewest).reduce((sum, { weight }) => sum + weight, 0)
  const watched = present.map(({ baseline }) => baseline.columns.filter(({ name }) => !policy.ignored.has(name)))
  const pThreshold = thresholdOf(policy, watched.flat().length)
  const look = { startHour, endHour, revision: snapshot.revision, complete: snapshot.firstHour <= startHour }
  return present.map(({ baseline, panes }, index) => {
    const range = { startHour, endHour, cellCount: baseline.cellCount }
    const window = windowCounts(panes, traffic, range)
    const columns = watched[index] ?? []
    return {
      baseline,
      window,
      verdicts: columns.map((column) => judge(column, window, look, policy, pThreshold)),
      answering: newestRows < policy.minimumRows || panes.some(isNewest),
    }
  })
}

/** A column's counts side by side. */
export function distributionOf(column: Column, counts: readonly number[]): Distribution {
  return create(DistributionSchema, {
    name: column.name,
    cells: column.cells,
    referenceCounts: column.reference.map(BigInt),
    currentCounts: counts.slice(column.firstCell, column.firstCell + column.cellCount).map(BigInt),
  })
}

function trafficOf(versions: readonly VersionPanes[]): HourTraffic[] {
  const weights = new Map<number, number>()
  for (const { panes } of versions) {
    for (const { hour, rows, samplingRate } of panes) weights.set(hour, (weights.get(hour) ?? 0) + rows / samplingRate)
  }
  return [...weights].map(([hour, weight]) => ({ hour, weight }))
}
