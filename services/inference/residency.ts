/** Which versions to load and which to let go, as one pure decision: no clock, no I/O. */

/** What is known of one version. */
export interface VersionSnapshot {
  /** `models/{model}/versions/{number}`. */
  readonly name: string
  readonly model: string
  readonly state: 'absent' | 'loading' | 'ready' | 'unloading' | 'failed'
  /** An alias points to it. */
  readonly isAliased: boolean
  /** Somebody asked to have it loaded. */
  readonly isPinned: boolean
  readonly sizeBytes: number
  /** When it last had a caller, or became ready. */
  readonly lastUsedMs: number
  /** Loads that failed in a row, and when the last one did. */
  readonly failures: number
  readonly failedMs: number
}

/** The bounds within which versions are held. */
export interface ResidencyPolicy {
  /** Versions that are loaded at the same time. */
  readonly maxLoading: number
  /** A version to which no alias points is let go when it had no caller for so long. */
  readonly idleMs: number
  /** Bytes of files that may be loaded at once; above it, versions without an alias are let go, the longest unused first. */
  readonly maxLoadedBytes: number
  /** Wait before a failed load is tried again; doubles with each failure in a row. */
  readonly retryMs: number
  readonly maxRetryMs: number
}

/** The next thing to do; `wait` until something changes, or until a time. */
export type ResidencyAction =
  | { readonly kind: 'load'; readonly name: string }
  | { readonly kind: 'unload'; readonly name: string; readonly reason: 'idle' | 'memory' }
  | { readonly kind: 'wait'; readonly untilMs: number }

/**
 * Decides on one action. Loading goes before letting go, so that a model is never without a version that answers while its next one is on
 * its way; the same snapshot always gives the same action.
 */
export function nextAction(
  versions: readonly VersionSnapshot[],
  nowMs: number,
  policy: ResidencyPolicy,
): ResidencyAction {
  const loading = versions.filter(({ state }) => state === 'loading').length
  if (loading < policy.maxLoading) {
    const due = versions.filter((version) => isWanted(version) && loadDueMs(version, policy) <= nowMs)
    const [first] = due.sort((left, right) => Number(right.isAliased) - Number(left.isAliased))
    if (first !== undefined) return { kind: 'load', name: first.name }
  }
  const spare = versions
    .filter((version) => version.state === 'ready' && !version.isAliased && !isLastResort(version, versions))
    .sort((left, right) => left.lastUsedMs - right.lastUsedMs)
  const loadedBytes = versions.reduce((sum, { state, sizeBytes }) => sum + (state === 'ready' ? sizeBytes : 0), 0)
  for (const version of spare) {
    if (version.lastUsedMs + policy.idleMs <= nowMs) return { kind: 'unload', name: version.name, reason: 'idle' }
    if (loadedBytes > policy.maxLoadedBytes) return { kind: 'unload', name: version.name, reason: 'memory' }
  }
  const loads = versions.filter(isWanted).map((version) => loadDueMs(version, policy))
  const idles = spare.map(({ lastUsedMs }) => lastUsedMs + policy.idleMs)
  return { kind: 'wait', untilMs: Math.min(Number.POSITIVE_INFINITY, ...loads.filter((due) => due > nowMs), ...idles) }
}

/** When a version that is not there should be loaded; Infinity when it is there or on its way. */
function loadDueMs({ state, failures, failedMs }: VersionSnapshot, policy: ResidencyPolicy): number {
  if (state === 'absent') return Number.NEGATIVE_INFINITY
  if (state !== 'failed') return Number.POSITIVE_INFINITY
  return failedMs + Math.min(policy.retryMs * 2 ** Math.max(0, failures - 1), policy.maxRetryMs)
}

function isWanted({ isAliased, isPinned }: VersionSnapshot): boolean {
  return isAliased || isPinned
}

/** True for the only ready version of a model whose aliased version is not ready yet. */
function isLastResort(version: VersionSnapshot, versions: readonly VersionSnapshot[]): boolean {
  const others = versions.filter(({ model, name }) => model === version.model && name !== version.name)
  const isReplacementDue = others.some(({ isAliased, state }) => isAliased && state !== 'ready')
  return isReplacementDue && !others.some(({ state }) => state === 'ready')
}
