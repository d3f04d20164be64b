/** When a process that died is started again. Pure: no clock, no process. */

/** What is known of one process. */
export interface RestartState {
  /** Deaths in a row, each soon after its start. */
  readonly quickDeaths: number
}

/** A process that lived this long starts with a clean slate. */
export const settledAfterMs = 30_000

const firstDelayMs = 200
const longestDelayMs = 10_000

/** How long to wait before the next start, given how long the process lived. */
export function afterDeath(state: RestartState, livedMs: number): { state: RestartState; delayMs: number } {
  const quickDeaths = livedMs >= settledAfterMs ? 1 : state.quickDeaths + 1
  return { state: { quickDeaths }, delayMs: Math.min(firstDelayMs * 2 ** (quickDeaths - 1), longestDelayMs) }
}
