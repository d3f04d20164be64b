import type { BlobStore } from '@slipway/storage'
import { logger } from '@slipway/telemetry'

/** What the sweeper needs. */
export interface SweeperOptions {
  readonly blobs: BlobStore
  /** After how long an unfinished upload that nobody touches is dropped. */
  readonly idleMs: number
}

/** Drops forgotten uploads once an hour, until it is stopped. */
export function startSweeper(options: SweeperOptions): { stop(): void } {
  const log = logger('slipway.registry')
  const timer = setInterval(() => {
    options.blobs.sweep({ idleMs: options.idleMs }).then(
      (swept) => swept > 0 && log.info('dropped forgotten uploads', { swept }),
      (error: unknown) => log.warn('could not look for forgotten uploads', { error }),
    )
  }, 3_600_000)
  timer.unref()
  return { stop: () => clearInterval(timer) }
}
