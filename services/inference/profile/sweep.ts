/** Which settings and loads are tried, and what follows from what was measured. No clock, no chance. */

/** How a version is run. */
export interface Setting {
  readonly executors: number
  readonly intraOpThreads: number
  readonly maxBatchRows: number
}

/** One thing to measure. */
export interface Trial {
  readonly setting: Setting
  readonly concurrency: number
}

/** What a trial gave. */
export interface Outcome extends Trial {
  readonly requestsPerSecond: number
  readonly rowsPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly memoryBytes: number
  readonly cpuMicrosPerRow: number
  readonly meanBatchRows: number
  readonly failed: number
}

/** The values to try; an empty list stands for what the machine suggests. */
export interface SweepRanges {
  readonly executors: readonly number[]
  readonly intraOpThreads: readonly number[]
  readonly maxBatchRows: readonly number[]
  readonly concurrency: readonly number[]
}

/** What a setting must reach; an unset bound holds for everything. */
export interface Objective {
  readonly p99Ms: number | undefined
  readonly rowsPerSecond: number | undefined
  readonly memoryBytes: number | undefined
}

const BATCH_ROWS = [1, 16, 256]
const CONCURRENCY = [1, 8, 64]

/**
 * The trials, those of one setting after another and with that one object. Settings that need more threads than there are
 * are left out.
 */
export function planSweep(ranges: SweepRanges, threads: number): Trial[] {
  const trials: Trial[] = []
  for (const executors of valuesOf(ranges.executors, [1, threads])) {
    for (const intraOpThreads of valuesOf(ranges.intraOpThreads, [1, threads])) {
      if (executors * intraOpThreads > threads) continue
      for (const maxBatchRows of valuesOf(ranges.maxBatchRows, BATCH_ROWS)) {
        const setting = { executors, intraOpThreads, maxBatchRows }
        for (const concurrency of valuesOf(ranges.concurrency, CONCURRENCY)) trials.push({ setting, concurrency })
      }
    }
  }
  return trials
}

/** Whether no other outcome is better: at least as good in rows a second, p99 and memory, and better in one of them. */
export function isPareto(outcome: Outcome, all: readonly Outcome[]): boolean {
  return outcome.failed === 0 && !all.some((other) => other.failed === 0 && dominates(other, outcome))
}

/**
 * The setting that meets the objective at least cost: fewest threads, then least processor time a row, then least memory. Without a
 * bound on rows a second it is the one with the most of them among those that meet the rest, at least cost within
 * 5 % of it.
 */
export function recommend(outcomes: readonly Outcome[], objective: Objective): Setting | undefined {
  const meeting = outcomes.filter((outcome) => meets(outcome, objective))
  const most = Math.max(...meeting.map(({ rowsPerSecond }) => rowsPerSecond))
  const fast =
    objective.rowsPerSecond === undefined
      ? meeting.filter(({ rowsPerSecond }) => rowsPerSecond >= NEAR_BEST * most)
      : meeting
  return fast.sort(byCost)[0]?.setting
}

const NEAR_BEST = 0.95

function meets({ failed, p99Ms, rowsPerSecond, memoryBytes }: Outcome, objective: Objective): boolean {
  return (
    failed === 0 &&
    p99Ms <= (objective.p99Ms ?? Number.POSITIVE_INFINITY) &&
    rowsPerSecond >= (objective.rowsPerSecond ?? 0) &&
    memoryBytes <= (objective.memoryBytes ?? Number.POSITIVE_INFINITY)
  )
}

function byCost(left: Outcome, right: Outcome): number {
  const threadsOf = ({ setting }: Outcome): number => setting.executors * setting.intraOpThreads
  return (
    threadsOf(left) - threadsOf(right) ||
    left.cpuMicrosPerRow - right.cpuMicrosPerRow ||
    left.memoryBytes - right.memoryBytes
  )
}

function dominates(one: Outcome, other: Outcome): boolean {
  const isAsGood =
    one.rowsPerSecond >= other.rowsPerSecond && one.p99Ms <= other.p99Ms && one.memoryBytes <= other.memoryBytes
  const isBetter =
    one.rowsPerSecond > other.rowsPerSecond || one.p99Ms < other.p99Ms || one.memoryBytes < other.memoryBytes
  return isAsGood && isBetter
}

function valuesOf(given: readonly number[], suggested: readonly number[]): readonly number[] {
  return [...new Set(given.length > 0 ? given : suggested)]
}
