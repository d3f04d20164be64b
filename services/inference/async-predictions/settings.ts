import type { SettingsReader } from '@slipway/config'

/** Settings of asynchronous predictions. */
export interface AsyncPredictionSettings {
  /** Whether this server answers requests that come over the bus. */
  readonly answersAsyncRequests: boolean
  /** How long requests and results can be asked for. */
  readonly asyncResultRetentionMs: number
  /** How long a request that meets a full queue or a version on its way is tried again. */
  readonly asyncRetryMs: number
  /** Hosts, `name` or `name:port`, to which results may be posted. */
  readonly webhookHosts: ReadonlySet<string>
  /** Secret that posted results are signed with, `whsec_` and base64. */
  readonly webhookSecret: string | undefined
}

/** Reads the settings of asynchronous predictions. */
export function readAsyncPredictionSettings(read: SettingsReader): AsyncPredictionSettings {
  return {
    answersAsyncRequests: read.boolean('SLIPWAY_INFERENCE_ASYNC', {
      doc: 'whether requests that come over the bus are answered',
      default: true,
    }),
    asyncResultRetentionMs: read.durationMs('SLIPWAY_INFERENCE_ASYNC_RETENTION', {
      doc: 'how long the result of an asynchronous request can be asked for',
      default: '1d',
      min: '1m',
    }),
    asyncRetryMs: read.durationMs('SLIPWAY_INFERENCE_ASYNC_RETRY', {
      doc: 'how long an asynchronous request that meets a full queue or a version on its way is tried again',
      default: '1m',
    }),
    webhookHosts: new Set(
      read.list('SLIPWAY_INFERENCE_WEBHOOK_HOSTS', { doc: 'hosts to which results may be posted, name or name:port' }),
    ),
    webhookSecret: read.optionalText('SLIPWAY_INFERENCE_WEBHOOK_SECRET', {
      doc: 'signs posted results: whsec_ and 24 to 64 bytes in base64',
      pattern: /^whsec_[A-Za-z0-9+/]{32,86}={0,2}$/,
    }),
  }
}
