import type { SettingsReader } from '@slipway/config'

/** Settings of explanations. */
export interface ExplainSettings {
  /** Rows of one request. */
  readonly maxExplainedRows: number
  /** Requests that are worked on at once. */
  readonly maxExplainCalls: number
  /** Rows of one batch that goes to the executors. */
  readonly explainBatchRows: number
  /** Batches of one request that are under way at once. */
  readonly explainBatchesInFlight: number
  /** For requests without a deadline. */
  readonly explainTimeoutMs: number
}

/** Reads the settings of explanations. */
export function readExplainSettings(read: SettingsReader): ExplainSettings {
  return {
    maxExplainedRows: read.integer('SLIPWAY_INFERENCE_EXPLAIN_MAX_ROWS', {
      doc: 'rows of one Explain request',
      default: 64,
      min: 1,
      max: 1024,
    }),
    maxExplainCalls: read.integer('SLIPWAY_INFERENCE_EXPLAIN_MAX_CALLS', {
      doc: 'Explain requests worked on at once',
      default: 4,
      min: 1,
      max: 256,
    }),
    explainBatchRows: read.integer('SLIPWAY_INFERENCE_EXPLAIN_BATCH_ROWS', {
      doc: 'rows that an explanation has run at once: what more urgent requests may have to wait for',
      default: 128,
      min: 1,
      max: 4096,
    }),
    explainBatchesInFlight: read.integer('SLIPWAY_INFERENCE_EXPLAIN_BATCHES_IN_FLIGHT', {
      doc: 'batches of one Explain request under way at once',
      default: 4,
      min: 1,
      max: 64,
    }),
    explainTimeoutMs: read.durationMs('SLIPWAY_INFERENCE_EXPLAIN_TIMEOUT', {
      doc: 'for Explain requests without a deadline',
      default: '30s',
    }),
  }
}
