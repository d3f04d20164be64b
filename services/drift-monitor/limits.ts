/** Bounds that are not settings: beyond them the monitor says no instead of growing. */
export const limits = {
  /** Monitors of one service. */
  monitors: 1000,
  /** Newest labelled predictions that performance is computed from. */
  performanceRows: 200_000,
  /** Versions whose performance is kept in memory until another label is joined. */
  performanceEntries: 256,
  /** Versions whose baselines are kept in memory. */
  baselines: 64,
  /** How far in the future, by the clock, an event may lie. */
  futureMicros: 24n * 3_600_000_000n,
  /** Rows written by one statement. */
  rowsPerStatement: 500,
  /** Events published at once. */
  outboxBatch: 256,
  /** Batches smaller than this are followed by a pause in which more can gather. */
  lingerBelowRecords: 250,
  /** Length of that pause. */
  lingerMs: 100,
  /** Wait before the bus is tried again at the start. */
  subscribeRetryMs: 1000,
  /** Longest silence of a watch. */
  watchHeartbeatMs: 10_000,
  /** Incident changes that may wait for a slow watcher; then it is told to come again. */
  watchBacklog: 1000,
} as const
