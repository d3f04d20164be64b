/**
 * Records that were acknowledged and are on their way to the bus, in segment files.
 *
 * 1. `append` returns when its records are on disk: they survive the loss of the process and of power.
 * 2. Records of one call are delivered all together or, when the process died before the call returned, maybe not at all.
 * 3. Every record reaches the bus at least once; it leaves the disk only after the bus has it.
 * 4. At most `maxBytes` wait; a call that would exceed it is RESOURCE_EXHAUSTED and keeps nothing.
 * 5. Calls that come together share one write and one flush; the event loop never waits for the disk.
 */
import { type FileHandle, mkdir, open, readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { EventBus, EventRecord } from '@slipway/events'
import { Code, Failure } from '@slipway/rpc'
import type { Logger } from '@slipway/telemetry'
import { decodeFrames, encodeFrame } from './outbox-frames.ts'

/** Where an outbox lies and where it delivers. */
export interface OutboxOptions {
  readonly directory: string
  readonly bus: Pick<EventBus, 'publish'>
  /** Most bytes on disk. */
  readonly maxBytes: number
  readonly log: Logger
}

const FIRST_PAUSE_MS = 100
const MAX_PAUSE_MS = 5_000
const MAX_PUBLISH_RECORDS = 1_000
const MAX_SEGMENT_BYTES = 4 * 1024 * 1024

interface Waiting {
  readonly bytes: Buffer
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

interface Segment {
  readonly path: string
  readonly file: FileHandle
  sizeBytes: number
}

/** Keeps records on disk until the bus has them. */
export class Outbox {
  readonly #options: OutboxOptions
  readonly #stopping = new AbortController()
  /** Segments that are complete, oldest first. */
  readonly #sealed: string[] = []
  #segment: Segment | undefined
  #lastNumber = 0
  #isSealWanted = false
  #bytes = 0
  #waiting: Waiting[] = []
  #writing: Promise<void> | undefined
  #wake: () => void = () => {}
  #delivering: Promise<void> = Promise.resolve()

  private constructor(options: OutboxOptions) {
    this.#options = options
  }

  /** Opens an outbox, takes up what an earlier process left, and starts to deliver. */
  static async open(options: OutboxOptions): Promise<Outbox> {
    const outbox = new Outbox(options)
    await mkdir(options.directory, { recursive: true })
    for (const name of (await readdir(options.directory)).filter((each) => each.endsWith('.log')).toSorted()) {
      const path = join(options.directory, name)
      outbox.#sealed.push(path)
      outbox.#bytes += (await stat(path)).size
      outbox.#lastNumber = Number.parseInt(name, 10)
    }
    outbox.#delivering = outbox.#deliver()
    return outbox
  }

  /** Bytes that wait for the bus. */
  get sizeBytes(): number {
    return this.#bytes
  }

  /** Keeps records; resolved when they are durable. */
  async append(records: readonly EventRecord[]): Promise<void> {
    const bytes = encodeFrame(records)
    if (this.#bytes + bytes.length > this.#options.maxBytes) {
      const message = `${this.#bytes} bytes of feedback wait for the event bus already`
      throw new Failure(Code.RESOURCE_EXHAUSTED, 'FEEDBACK_OUTBOX_FULL', message, { retryAfterMs: 1_000 })
    }
    this.#bytes += bytes.length
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push({ bytes, resolve, reject })
      this.#writing ??= this.#write().finally(() => {
        this.#writing = undefined
        this.#wake()
      })
    })
  }

  /** Stops delivering; what is on disk stays there for the next process. */
  async close(): Promise<void> {
    await this.#writing
    this.#stopping.abort()
    this.#wake()
    await this.#delivering
    await this.#segment?.file.close()
    this.#segment = undefined
  }

  async #write(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = this.#waiting
      this.#waiting = []
      try {
        const bytes = Buffer.concat(group.map((each) => each.bytes))
        this.#segment ??= await this.#newSegment()
        await this.#segment.file.appendFile(bytes)
        await this.#segment.file.datasync()
        this.#segment.sizeBytes += bytes.length
      } catch (error) {
        for (const each of group) {
          this.#bytes -= each.bytes.length
          each.reject(new Failure(Code.UNAVAILABLE, 'FEEDBACK_NOT_KEPT', 'the disk did not take it', { cause: error }))
        }
        await this.#seal()
        continue
      }
      for (const each of group) each.resolve()
      if (this.#isSealWanted || this.#segment.sizeBytes >= MAX_SEGMENT_BYTES) await this.#seal()
      // Calls may go on coming without a pause: delivery does not wait for one.
      this.#wake()
    }
  }

  async #newSegment(): Promise<Segment> {
    this.#lastNumber++
    const path = join(this.#options.directory, `${String(this.#lastNumber).padStart(12, '0')}.log`)
    const file = await open(path, 'ax')
    const directory = await open(this.#options.directory, 'r')
    await directory.sync()
    await directory.close()
    return { path, file, sizeBytes: 0 }
  }

  /** Closes the segment that is written to, so that it can be delivered; only while nothing is being written. */
  async #seal(): Promise<void> {
    const segment = this.#segment
    if (segment === undefined) return
    this.#segment = undefined
    this.#isSealWanted = false
    this.#sealed.push(segment.path)
    await segment.file.close().catch((error: unknown) => {
      this.#options.log.warn('a segment of feedback was not closed', { path: segment.path, error })
    })
  }

  async #deliver(): Promise<void> {
    let pauseMs = FIRST_PAUSE_MS
    while (!this.#stopping.signal.aborted) {
      if (this.#sealed.length === 0 && this.#segment !== undefined) {
        if (this.#writing === undefined) await this.#seal()
        else this.#isSealWanted = true
      }
      const path = this.#sealed[0]
      if (path === undefined) {
        await this.#untilWoken()
        continue
      }
      try {
        await this.#deliverSegment(path)
        pauseMs = FIRST_PAUSE_MS
      } catch (error) {
        if (this.#stopping.signal.aborted) return
        this.#options.log.warn('feedback waits on disk for the event bus', { error, bytes: this.#bytes })
        await this.#pause(pauseMs)
        pauseMs = Math.min(MAX_PAUSE_MS, pauseMs * 2)
      }
    }
  }

  async #deliverSegment(path: string): Promise<void> {
    const content = await readFile(path)
    const records = decodeFrames(content)
    for (let start = 0; start < records.length; start += MAX_PUBLISH_RECORDS) {
      const batch = records.slice(start, start + MAX_PUBLISH_RECORDS)
      await this.#options.bus.publish(batch, { signal: this.#stopping.signal })
    }
    await rm(path)
    this.#sealed.shift()
    this.#bytes = Math.max(0, this.#bytes - content.length)
  }

  async #untilWoken(): Promise<void> {
    if ((this.#segment !== undefined && this.#writing === undefined) || this.#stopping.signal.aborted) return
    await new Promise<void>((resolve) => {
      this.#wake = resolve
    })
  }

  async #pause(milliseconds: number): Promise<void> {
    await sleep(milliseconds, undefined, { signal: this.#stopping.signal }).catch(() => undefined)
  }
}
