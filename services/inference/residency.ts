/**
 * Which versions to load and which to let go, as one pure decision: no clock, no I/O.
 *
 * 1. The same snapshot always gives the same action, and an action that was carried out is not given again.
 * 2. A version that is in use or held is never let go, nor is the only one that answers while its model's next one is on its way.
 * 3. What is loaded stays within the memory budget, but for a version's successor: it is loaded before the version goes.
 * 4. What was let go comes back only for a caller. So nothing is loaded and let go in turns unless callers make it so.
 */

/** Who wants a version: an alias points to it, an endpoint sends traffic to it, or somebody asked for it. */
export type Want = 'alias' | 'endpoint' | 'request'

/** What is known of one version. */
export interface VersionSnapshot {
  /** `models/{model}/versions/{number}`. */
  readonly name: string
  readonly model: string
  /** `absent` was never loaded; `unloaded` was let go and comes back for a caller; `measuring` is being asked for its size. */
  readonly state: 'absent' | 'measuring' | 'loading' | 'ready' | 'unloading' | 'unloaded' | 'failed'
  readonly wantedBy: readonly Want[]
  /** Something that is loaded, or on its way, cannot do without it. */
  readonly isHeld: boolean
  /** It has requests that wait or run. */
  readonly isBusy: boolean
  /** Memory that it takes, or would take by an estimate; undefined while its size is unknown. */
  readonly memoryBytes: number | undefined
  /** When it last had a caller, or became ready. */
  readonly lastUsedMs: number
  /** Since when somebody waits for it; undefined when nobody does. */
  readonly demandedMs: number | undefined
  /** Loads that failed in a row, and when the last one did. */
  readonly failures: number
  readonly failedMs: number
}

/** The bounds within which versions are held. */
export interface ResidencyPolicy {
  /** Versions that are loaded at the same time, not counting those that others need in order to be loaded. */
  readonly maxLoading: number
  /** Memory that versions may take. */
  readonly maxMemoryBytes: number
  /** A version that is wanted, though by no alias, is let go when it had no caller for so long. */
  readonly idleMs: number
  /** The same for one that an alias points to. */
  readonly aliasedIdleMs: number
  /** The same for one that nobody wants any more. */
  readonly unwantedIdleMs: number
  /** A version is in use for so long after each caller, and stays: versions that do not fit together take turns, not more. */
  readonly keepMs: number
  /** Longest wait for memory that others have in use. */
  readonly maxDemandMs: number
  /** Versions that are remembered as let go; above it, those without an alias are forgotten, the longest unused first. */
  readonly maxUnloaded: number
  /** Wait before a failed load is tried again; doubles with each failure in a row. */
  readonly retryMs: number
  readonly maxRetryMs: number
}

/** The next thing to do; `wait` until something changes, or until a time. */
export type ResidencyAction =
  | { readonly kind: 'measure'; readonly name: string }
  | { readonly kind: 'load'; readonly name: string }
  /** It does not fit and nobody waits for it: it is known, and comes when it is asked for. */
  | { readonly kind: 'defer'; readonly name: string }
  /** It cannot be had: those who wait are told. */
  | { readonly kind: 'refuse'; readonly name: string; readonly neededBytes: number }
  | { readonly kind: 'unload'; readonly name: string; readonly reason: 'idle' | 'memory' | 'unwanted' }
  | { readonly kind: 'forget'; readonly name: string }
  | { readonly kind: 'wait'; readonly untilMs: number }

/** How soon to look again when what is in use stands in the way. */
const LOOK_AGAIN_MS = 100
/** Versions whose size is asked for at the same time. */
const MAX_MEASURING = 16
const NEVER = Number.POSITIVE_INFINITY

/** Decides on one action: loading goes before letting go. */
export function nextAction(
  versions: readonly VersionSnapshot[],
  nowMs: number,
  policy: ResidencyPolicy,
): ResidencyAction {
  const view: View = { versions, nowMs, policy, byModel: Map.groupBy(versions, ({ model }) => model) }
  const load = nextLoad(view)
  if (load !== undefined && load.kind !== 'wait') return load
  const release = nextRelease(view)
  if (release.kind !== 'wait') return release
  return { kind: 'wait', untilMs: Math.min(load?.untilMs ?? NEVER, release.untilMs) }
}

/** When a load that has failed is due again. */
export function retryDueMs(failures: number, failedMs: number, policy: ResidencyPolicy): number {
  return failedMs + Math.min(policy.retryMs * 2 ** Math.max(0, failures - 1), policy.maxRetryMs)
}

interface View {
  readonly versions: readonly VersionSnapshot[]
  readonly nowMs: number
  readonly policy: ResidencyPolicy
  readonly byModel: ReadonlyMap<string, readonly VersionSnapshot[]>
}

function nextLoad(view: View): ResidencyAction | undefined {
  const { versions, nowMs, policy } = view
  const due = versions.filter((version) => loadDueMs(version, policy) <= nowMs).sort(byUrgency)
  const unknown = due.find(({ memoryBytes }) => memoryBytes === undefined)
  const measuring = versions.filter(({ state }) => state === 'measuring').length
  if (unknown !== undefined && measuring < MAX_MEASURING) return { kind: 'measure', name: unknown.name }
  const isFull = versions.filter(({ state, isHeld }) => state === 'loading' && !isHeld).length >= policy.maxLoading
  let untilMs = Math.min(NEVER, ...versions.map((version) => loadDueMs(version, policy)).filter((at) => at > nowMs))
  // What comes after one that waits for memory may use what is free, and takes nothing more away.
  let mayEvict = true
  for (const version of due) {
    if (version.memoryBytes === undefined || (isFull && !version.isHeld)) continue
    const action = makeRoom(version, view, mayEvict)
    if (action.kind !== 'wait') return action
    untilMs = Math.min(untilMs, action.untilMs)
    mayEvict = false
  }
  return { kind: 'wait', untilMs }
}

/** Loads a version, or does what has to be done before. */
function makeRoom(version: VersionSnapshot, view: View, mayEvict: boolean): ResidencyAction {
  const { versions, nowMs, policy } = view
  const { name, demandedMs } = version
  const neededBytes = bytesOf(version)
  if (neededBytes > policy.maxMemoryBytes) return { kind: 'refuse', name, neededBytes }
  const excessBytes = residentBytes(versions) + neededBytes - policy.maxMemoryBytes
  if (excessBytes <= 0) return { kind: 'load', name }
  const later: ResidencyAction = { kind: 'wait', untilMs: nowMs + LOOK_AGAIN_MS }
  const leavingBytes = sumBytes(versions.filter(({ state }) => state === 'unloading'))
  if (excessBytes <= leavingBytes || !mayEvict) return later
  const predecessors = versions.filter((other) => isPredecessor(other, version))
  const others = versions.filter((other) => mayGiveWay(other, version, view) && !isPredecessor(other, version))
  if (others.length > 0 && excessBytes <= leavingBytes + sumBytes(others) + sumBytes(predecessors)) {
    const [first] = others.filter((other) => keptUntilMs(other, policy) <= nowMs).sort(byWorth)
    return first === undefined ? later : { kind: 'unload', name: first.name, reason: 'memory' }
  }
  if (excessBytes <= leavingBytes + sumBytes(predecessors)) return { kind: 'load', name }
  if (demandedMs !== undefined) {
    if (demandedMs + policy.maxDemandMs <= nowMs) return { kind: 'refuse', name, neededBytes }
    return later
  }
  // A successor waits for its place instead: who asks for the default gets the version before it.
  const answersMeanwhile = isAliased(version) && versions.some((other) => isPredecessor(other, version))
  return answersMeanwhile || version.isHeld ? later : { kind: 'defer', name }
}

function nextRelease(view: View): ResidencyAction {
  const { versions, nowMs, policy } = view
  const spare = versions.filter((version) => isSpare(version, view)).sort(byWorth)
  const staying = versions.filter(({ state }) => state === 'ready' || state === 'loading')
  const isOver = sumBytes(staying) > policy.maxMemoryBytes
  let untilMs = NEVER
  for (const version of spare) {
    const { name, wantedBy, lastUsedMs } = version
    const idleAtMs = lastUsedMs + idleMsOf(version, policy)
    if (idleAtMs <= nowMs) return { kind: 'unload', name, reason: wantedBy.length === 0 ? 'unwanted' : 'idle' }
    untilMs = Math.min(untilMs, idleAtMs)
  }
  if (isOver) {
    const first = spare.find((version) => keptUntilMs(version, policy) <= nowMs)
    if (first !== undefined) return { kind: 'unload', name: first.name, reason: 'memory' }
    if (spare.length > 0) untilMs = Math.min(untilMs, ...spare.map((version) => keptUntilMs(version, policy)))
  }
  for (const version of versions.filter(({ state, isBusy }) => state === 'ready' && isBusy)) {
    const idleAtMs = isOver ? 0 : version.lastUsedMs + idleMsOf(version, policy)
    untilMs = Math.min(untilMs, Math.max(idleAtMs, nowMs + LOOK_AGAIN_MS))
  }
  const unloaded = versions.filter(({ state, demandedMs }) => state === 'unloaded' && demandedMs === undefined)
  if (unloaded.length > policy.maxUnloaded) {
    const [first] = unloaded.filter((version) => !isAliased(version)).sort(byWorth)
    if (first !== undefined) return { kind: 'forget', name: first.name }
  }
  return { kind: 'wait', untilMs }
}

/** When a version that is not there should be loaded; never when it is there, on its way, or let go and not asked for. */
function loadDueMs(version: VersionSnapshot, policy: ResidencyPolicy): number {
  const { state, wantedBy, isHeld, demandedMs, failures, failedMs } = version
  const isAskedFor = demandedMs !== undefined || isHeld
  if (!isAskedFor && wantedBy.length === 0) return NEVER
  if (state === 'absent') return Number.NEGATIVE_INFINITY
  if (state === 'unloaded') return isAskedFor ? Number.NEGATIVE_INFINITY : NEVER
  return state === 'failed' ? retryDueMs(failures, failedMs, policy) : NEVER
}

function isAliased({ wantedBy }: VersionSnapshot): boolean {
  return wantedBy.includes('alias')
}

/** Ready, not in use, and not the last that answers for its model. */
function isSpare(version: VersionSnapshot, { byModel }: View): boolean {
  const siblings = byModel.get(version.model) ?? []
  return version.state === 'ready' && !version.isBusy && !version.isHeld && !isLastResort(version, siblings)
}

/** True for the only ready version of a model whose aliased version is not ready yet. */
function isLastResort(version: VersionSnapshot, siblings: readonly VersionSnapshot[]): boolean {
  const others = siblings.filter(({ name }) => name !== version.name)
  const isOnItsWay = ({ state }: VersionSnapshot) => state !== 'ready' && state !== 'unloaded' && state !== 'unloading'
  const isReplacementDue = others.some((other) => isAliased(other) && isOnItsWay(other))
  return isReplacementDue && !others.some(({ state }) => state === 'ready')
}

/** A caller who waits is worth any version that is not in use; without one only what is wanted less gives way. */
function mayGiveWay(other: VersionSnapshot, version: VersionSnapshot, view: View): boolean {
  if (!isSpare(other, view)) return false
  return version.demandedMs !== undefined || version.isHeld || worth(other) < worth(version)
}

/** True for a version that goes when the other one, to which its model's alias points now, is ready. */
function isPredecessor(other: VersionSnapshot, version: VersionSnapshot): boolean {
  const isOther = other.state === 'ready' && !other.isHeld && other.model === version.model
  return isOther && isAliased(version) && !isAliased(other)
}

function worth({ wantedBy }: VersionSnapshot): number {
  if (wantedBy.includes('alias')) return 3
  if (wantedBy.includes('endpoint')) return 2
  return wantedBy.length
}

function keptUntilMs(version: VersionSnapshot, { keepMs }: ResidencyPolicy): number {
  return version.wantedBy.length === 0 ? Number.NEGATIVE_INFINITY : version.lastUsedMs + keepMs
}

function idleMsOf(version: VersionSnapshot, policy: ResidencyPolicy): number {
  if (version.wantedBy.length === 0) return policy.unwantedIdleMs
  return isAliased(version) ? policy.aliasedIdleMs : policy.idleMs
}

function bytesOf({ memoryBytes }: VersionSnapshot): number {
  return memoryBytes ?? 0
}

function sumBytes(versions: readonly VersionSnapshot[]): number {
  return versions.reduce((sum, version) => sum + bytesOf(version), 0)
}

function residentBytes(versions: readonly VersionSnapshot[]): number {
  return sumBytes(versions.filter(({ state }) => state === 'ready' || state === 'loading' || state === 'unloading'))
}

/** First what others need, then what callers wait for, then by who wants it; the name decides between equals. */
function byUrgency(left: VersionSnapshot, right: VersionSnapshot): number {
  const urgency = (version: VersionSnapshot): number =>
    (version.isHeld ? 8 : 0) + (version.demandedMs === undefined ? 0 : 4) + worth(version)
  return urgency(right) - urgency(left) || (left.name < right.name ? -1 : 1)
}

/** What is wanted least first, then what was unused for longest. */
function byWorth(left: VersionSnapshot, right: VersionSnapshot): number {
  return worth(left) - worth(right) || left.lastUsedMs - right.lastUsedMs || (left.name < right.name ? -1 : 1)
}
