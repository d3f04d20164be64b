import type { SettingsReader } from '@slipway/config'
import type { BatchLimits } from './batch-former.ts'

/** What may be set for one model apart from the others. */
const perModel = /^[^:=,\s]+:(max-rows|preferred-rows|delay-ms|objective-ms)=\d+(\.\d+)?$/

/** How requests are batched. */
export interface BatchingSettings extends BatchLimits {
  /** What is different for single models: `model:setting=value`, see `limitsFor`. */
  readonly modelBatching: readonly string[]
}

/** Reads the settings of queues and batches. */
export function readBatchingSettings(read: SettingsReader): BatchingSettings {
  return {
    maxBatchRows: read.integer('SLIPWAY_INFERENCE_MAX_BATCH_ROWS', {
      doc: 'rows of one batch; 1 turns batching off',
      default: 256,
      min: 1,
      max: 65_536,
    }),
    maxBatchBytes: read.bytes('SLIPWAY_INFERENCE_MAX_BATCH_BYTES', { doc: 'bytes of one batch', default: '16MiB' }),
    maxQueueRows: read.integer('SLIPWAY_INFERENCE_MAX_QUEUE_ROWS', {
      doc: 'rows that may wait for one version',
      default: 65_536,
      min: 1,
      max: 10_000_000,
    }),
    maxQueueWaitMs: read.durationMs('SLIPWAY_INFERENCE_MAX_QUEUE_WAIT', {
      doc: 'longest predicted wait',
      default: '10s',
    }),
    latencyObjectiveMs: orNone(
      read.durationMs('SLIPWAY_INFERENCE_LATENCY_OBJECTIVE', {
        doc: 'time from arrival to answer that 99 of 100 requests should meet; 0s for none',
        default: '0s',
      }),
    ),
    delayMs: orNone(
      read.durationMs('SLIPWAY_INFERENCE_BATCH_DELAY', {
        doc: 'how long a batch is held back for more requests; 0s leaves it to the server',
        default: '0s',
        max: '10s',
      }),
    ),
    preferredBatchRows: orNone(
      read.integer('SLIPWAY_INFERENCE_PREFERRED_BATCH_ROWS', {
        doc: 'rows at which a batch is not held back any longer; 0 for as many as it may have',
        default: 0,
        min: 0,
        max: 65_536,
      }),
    ),
    modelBatching: read.list('SLIPWAY_INFERENCE_MODEL_BATCHING', {
      doc: 'settings of single models: model:max-rows=N, model:preferred-rows=N, model:delay-ms=N, model:objective-ms=N',
      pattern: perModel,
    }),
  }
}

/** The limits of one model: the server's, with what is set for this model in their place. */
export function limitsFor({ modelBatching, ...limits }: BatchingSettings, model: string): BatchLimits {
  for (const setting of modelBatching) {
    const [, name, key, value] = /^(.+):(.+)=(.+)$/.exec(setting) ?? []
    if (name === model) limits = { ...limits, ...change(key, Number(value)) }
  }
  return limits
}

function change(key: string | undefined, value: number): Partial<BatchLimits> {
  if (key === 'max-rows') return { maxBatchRows: Math.max(1, Math.floor(value)) }
  if (key === 'preferred-rows') return { preferredBatchRows: orNone(value) }
  if (key === 'delay-ms') return { delayMs: value }
  return { latencyObjectiveMs: orNone(value) }
}

function orNone(value: number): number | undefined {
  return value === 0 ? undefined : value
}
