/** What goes on besides answering: rows become parts, old rows and forgotten uploads go. */
import type { BlobStore } from '@slipway/storage'
import { logger } from '@slipway/telemetry'
import type { FeatureStoreConfig } from './config.ts'
import { keepForgetting } from './forgetting.ts'
import type { OnlineStore } from './online-store/online-store.ts'
import type { Parts } from './parts.ts'
import type { Clock } from './time.ts'
import type { Views } from './views.ts'

/** What is kept in order. */
export interface HousekeepingOptions {
  readonly parts: Parts
  readonly online: OnlineStore
  readonly blobs: BlobStore
  readonly views: Views
  readonly clock: Clock
  readonly config: Pick<FeatureStoreConfig, 'rememberMs' | 'uploadIdleMs'>
}

const everyMs = 60_000
const sweepEveryMs = 3_600_000

/** Works until the signal; resolves when all of it has ended. */
export async function startHousekeeping(options: HousekeepingOptions, signal: AbortSignal): Promise<void> {
  const { parts, online: store, blobs, views, clock, config } = options
  const log = logger('slipway.feature-store')
  const sweep = () => {
    blobs.sweep({ idleMs: config.uploadIdleMs }).then(
      (swept) => swept > 0 && log.info('dropped forgotten uploads', { swept }),
      (error: unknown) => log.warn('could not look for forgotten uploads', { error }),
    )
  }
  const sweeping = setInterval(sweep, sweepEveryMs)
  signal.addEventListener('abort', () => clearInterval(sweeping), { once: true })
  const rememberMicros = BigInt(config.rememberMs) * 1000n
  const onError = (error: unknown) => log.error('old rows could not be forgotten', { error })
  const forgetting = { store, views: () => views.versions(), rememberMicros, everyMs, clock, onError }
  await Promise.all([parts.run(everyMs, signal), keepForgetting(forgetting, signal)])
}
