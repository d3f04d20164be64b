import type { SettingsReader } from '@slipway/config'

/** Settings of the response cache. */
export interface ResponseCacheSettings {
  /** Bytes of answers that are kept; 0 keeps none. */
  readonly maxCachedResponseBytes: number
  /** How long an answer is given again. */
  readonly responseTtlMs: number
  /** Models whose answers are kept; undefined for all. */
  readonly cachedModels: ReadonlySet<string> | undefined
}

/** Reads the settings of the response cache, which is off unless it is given room. */
export function readResponseCacheSettings(read: SettingsReader): ResponseCacheSettings {
  const models = read.list('SLIPWAY_INFERENCE_RESPONSE_CACHE_MODELS', {
    doc: 'models whose answers are kept, separated by commas; unset: all',
  })
  return {
    maxCachedResponseBytes: read.bytes('SLIPWAY_INFERENCE_RESPONSE_CACHE_BYTES', {
      doc: 'bytes of answers kept for equal requests; 0 keeps none',
      default: '0',
    }),
    responseTtlMs: read.durationMs('SLIPWAY_INFERENCE_RESPONSE_CACHE_TTL', {
      doc: 'how long an answer is given again',
      default: '1m',
    }),
    cachedModels: models.length === 0 ? undefined : new Set(models),
  }
}
