/** How often an executor may die. */
export interface RestartPolicy {
  /** Wait before the first restart; each further one within the window doubles it. */
  readonly firstDelayMs: number
  readonly maxDelayMs: number
  /** Deaths within the window after which it is not started again. */
  readonly maxDeaths: number
  readonly windowMs: number
}

/** What becomes of an executor that died. */
export type RestartAction = { readonly kind: 'restart'; readonly delayMs: number } | { readonly kind: 'quarantine' }

/** Decides from the times at which it died (the last one included) what becomes of an executor. */
export function nextRestart(deathTimesMs: readonly number[], nowMs: number, policy: RestartPolicy): RestartAction {
  const recent = deathTimesMs.filter((time) => nowMs - time < policy.windowMs).length
  if (recent >= policy.maxDeaths) return { kind: 'quarantine' }
  return { kind: 'restart', delayMs: Math.min(policy.firstDelayMs * 2 ** Math.max(0, recent - 1), policy.maxDelayMs) }
}
