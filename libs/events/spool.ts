/**
 * A producer that never slows or fails its caller. While the bus takes records they go straight there; when it does not,
 * they go to disk up to a bound, and from there to the bus once it is back.
 *
 * 1. `offer` does no I/O and never waits. It answers whether the record was taken.
 * 2. At every moment `offered = delivered + spooled + dropped + buffered`, records found on disk counted as offered.
 * 3. Records leave in the order in which they were offered. After a failure they may leave twice, never not at all,
 *    unless they are counted as dropped: too large, no room in memory, no room on disk.
 * 4. What is on disk when the process is killed is delivered by the next one that opens the folder; what is only in
 *    memory is lost. `flush` waits until nothing that was offered before it is only in memory.
 */
import { mkdirSync } from 'node:fs'
import type { ObservableCallback } from '@opentelemetry/api'
import { attribute, logger, meter, metric } from '@slipway/telemetry'
import { type EventBus, type EventRecord, limits, recordBytes } from './bus.ts'
import { pause, retryDelayMs } from './delivery.ts'
import { openSpoolFiles, type SpoolFiles, type SpoolSync } from './spool-files.ts'

/** How much a spool may hold, and where. */
export interface SpoolOptions {
  readonly bus: EventBus
  /** Folder of the segment files; one process owns it. */
  readonly directory: string
  /** Most bytes on disk. */
  readonly maxBytes: number
  /** Most records in memory. */
  readonly maxBufferedRecords: number
  /** Most bytes in memory, default 64 MiB. */
  readonly maxBufferedBytes?: number
  /** Default `batch`. */
  readonly sync?: SpoolSync
  /** How long a record waits for others to go with it, default 20. */
  readonly lingerMs?: number
  /** How long the bus may take for a batch before records go to disk, default 1000. */
  readonly publishTimeoutMs?: number
}

/** What became of the records that were offered. */
export interface SpoolCounts {
  /** Handed to `offer`, or found on disk at the start. */
  readonly offered: number
  /** The part of `offered` that an earlier process left on disk. */
  readonly recovered: number
  /** Acknowledged by the bus. */
  readonly delivered: number
  /** On disk now. */
  readonly spooled: number
  /** Given up. */
  readonly dropped: number
  /** Only in memory now. */
  readonly buffered: number
}

/** A running producer. */
export interface SpooledProducer {
  /** Takes a record to deliver it; false when it was dropped at once. */
  offer(record: EventRecord): boolean
  counts(): SpoolCounts
  /** Waits until everything offered so far is delivered, on disk or dropped. */
  flush(): Promise<void>
  /** Flushes and stops; what is on disk waits for the next start. The bus stays open. */
  close(): Promise<void>
}

const batchRecords = 500
const log = logger('slipway.events')
const meters = meter('slipway.events')
const recordsGauge = meters.createObservableGauge(metric.spoolRecords)
const sizeGauge = meters.createObservableGauge(metric.spoolSize)

/** Opens the folder and starts to deliver what an earlier process left there; throws when the folder cannot be made. */
export function openSpool(options: SpoolOptions): SpooledProducer {
  mkdirSync(options.directory, { recursive: true })
  const maxBufferedBytes = options.maxBufferedBytes ?? 64 * 1024 * 1024
  const publishTimeoutMs = options.publishTimeoutMs ?? 1000
  const lingerMs = options.lingerMs ?? 20
  const stopping = new AbortController()
  const total = { offered: 0, recovered: 0, delivered: 0, spooled: 0, dropped: 0 }
  const buffer: EventRecord[] = []
  let bufferedBytes = 0
  /** Records that `offer` put into the buffer, and those that left it again. */
  let taken = 0
  let settled = 0
  const flushes: { readonly after: number; readonly resolve: () => void }[] = []
  let files: SpoolFiles | undefined
  let draining: Promise<void> | undefined
  let wake: () => void = () => undefined
  let lingering: NodeJS.Timeout | undefined
  let isDue = false

  function offer(record: EventRecord): boolean {
    total.offered += 1
    const bytes = recordBytes(record)
    const hasRoom = buffer.length < options.maxBufferedRecords && bufferedBytes + bytes <= maxBufferedBytes
    if (stopping.signal.aborted || bytes > limits.maxRecordBytes || !hasRoom) {
      total.dropped += 1
      return false
    }
    buffer.push(record)
    bufferedBytes += bytes
    taken += 1
    linger()
    if (buffer.length >= batchRecords) wake()
    return true
  }

  /** Records wait a little for others, unless a batch is full or somebody waits for them. */
  function linger(): void {
    if (buffer.length === 0 || lingering !== undefined) return
    lingering = setTimeout(() => {
      lingering = undefined
      isDue = true
      wake()
    }, lingerMs)
  }

  function isReady(): boolean {
    if (buffer.length === 0) return false
    return isDue || buffer.length >= batchRecords || flushes.length > 0 || stopping.signal.aborted
  }

  /** Takes records out of memory that are delivered, on disk or dropped. */
  function settle(batch: readonly EventRecord[]): void {
    buffer.splice(0, batch.length)
    for (const record of batch) bufferedBytes -= recordBytes(record)
    settled += batch.length
    while (flushes[0] !== undefined && flushes[0].after <= settled) flushes.shift()?.resolve()
    linger()
  }

  async function publish(records: readonly EventRecord[]): Promise<boolean> {
    try {
      await options.bus.publish(records, { signal: AbortSignal.timeout(publishTimeoutMs) })
      return true
    } catch (error) {
      if (draining === undefined) log.warn('the bus takes no records, they go to disk', { error })
      return false
    }
  }

  /** Moves the oldest records out of memory: to the bus, or to disk while others wait there. */
  async function move(spool: SpoolFiles): Promise<void> {
    const batch = buffer.slice(0, batchRecords)
    isDue = false
    if (total.spooled === 0 && (await publish(batch))) {
      total.delivered += batch.length
      return settle(batch)
    }
    const kept = await spool.append(batch)
    total.spooled += kept
    total.dropped += batch.length - kept
    settle(batch)
    if (kept > 0) draining ??= drain(spool)
  }

  async function drain(spool: SpoolFiles): Promise<void> {
    let failures = 0
    // The caller notes that this runs before it can end.
    await Promise.resolve()
    while (total.spooled > 0 && !stopping.signal.aborted) {
      const sent = await sendFront(spool).catch((error: unknown) => {
        log.warn('spool not read', { directory: options.directory, error })
        return false
      })
      failures = sent ? 0 : failures + 1
      if (!sent) await pause(retryDelayMs(failures - 1), stopping.signal)
    }
    draining = undefined
  }

  async function sendFront(spool: SpoolFiles): Promise<boolean> {
    const records = await spool.read(batchRecords)
    if (records.length === 0) {
      const lost = await spool.dropFront()
      total.spooled -= lost
      total.dropped += lost
      return true
    }
    if (!(await publish(records))) return false
    await spool.advance()
    total.spooled -= records.length
    total.delivered += records.length
    return true
  }

  async function run(spool: SpoolFiles): Promise<void> {
    total.recovered = spool.records
    total.offered += spool.records
    total.spooled += spool.records
    if (total.spooled > 0) draining = drain(spool)
    while (!stopping.signal.aborted || buffer.length > 0) {
      const news = new Promise<void>((resolve) => {
        wake = resolve
      })
      if (isReady()) await move(spool)
      else await news
    }
    await draining
    await spool.close()
  }

  async function start(): Promise<void> {
    for (let failures = 0; !stopping.signal.aborted || buffer.length > 0; failures += 1) {
      try {
        files = await openSpoolFiles({ sync: 'batch', ...options })
        return await run(files)
      } catch (error) {
        log.error('spool cannot be used', { directory: options.directory, error })
        if (stopping.signal.aborted) return dropBuffer()
        await pause(retryDelayMs(failures), stopping.signal)
      }
    }
  }

  function dropBuffer(): void {
    total.dropped += buffer.length
    settle([...buffer])
  }

  const counts = (): SpoolCounts => ({ ...total, buffered: buffer.length })
  const running = start()
  const stopObserving = observeSpool(counts, () => files?.bytes ?? 0)

  return {
    offer,
    counts,
    flush: () => {
      if (settled === taken) return Promise.resolve()
      return new Promise((resolve) => {
        flushes.push({ after: taken, resolve })
        wake()
      })
    },
    close: async () => {
      stopping.abort()
      wake()
      await running
      clearTimeout(lingering)
      stopObserving()
    },
  }
}

/** Exports the counts, all of one moment; returns how to stop that. */
function observeSpool(counts: () => SpoolCounts, bytes: () => number): () => void {
  const records: ObservableCallback = (result) => {
    const { recovered: _recovered, ...states } = counts()
    for (const [state, value] of Object.entries(states)) result.observe(value, { [attribute.delivery]: state })
  }
  const size: ObservableCallback = (result) => result.observe(bytes())
  recordsGauge.addCallback(records)
  sizeGauge.addCallback(size)
  return () => {
    recordsGauge.removeCallback(records)
    sizeGauge.removeCallback(size)
  }
}
