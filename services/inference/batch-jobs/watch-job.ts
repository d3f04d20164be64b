import { setTimeout as sleep } from 'node:timers/promises'
import type { JobLog } from './job-log.ts'
import type { JobRecord } from './job-state.ts'

/** Two looks at a job are at least so far apart. */
const MIN_INTERVAL_MS = 200
/** Without news the job is looked at again after so long, for the rows that are under way. */
const MAX_INTERVAL_MS = 1000

/** What watching needs. */
export interface WatchOptions {
  readonly name: string
  readonly read: () => Promise<JobRecord>
  readonly jobs: JobLog
  readonly signal: AbortSignal
}

/** A job as it is now, then whenever there are news of it, and now and then besides; ends with the signal. */
export async function* watchJob({ name, read, jobs, signal }: WatchOptions): AsyncGenerator<JobRecord> {
  let news = Promise.withResolvers<void>()
  const forget = jobs.onChange((changed) => {
    if (changed === name) news.resolve()
  })
  try {
    while (!signal.aborted) {
      news = Promise.withResolvers<void>()
      yield await read()
      await pause(MIN_INTERVAL_MS, signal)
      await Promise.race([news.promise, pause(MAX_INTERVAL_MS, signal)])
    }
  } finally {
    forget()
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal, ref: false }).catch(() => undefined)
}
