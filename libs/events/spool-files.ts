/**
 * The queue on disk behind a spooled producer: first in, first out, in segment files. One process owns the folder.
 *
 * 1. What `append` acknowledged is read back by the next process that opens the folder, in the same order.
 * 2. The files never hold more than `maxBytes`; what does not fit is refused, not what is there.
 * 3. One operation runs at a time: a segment that is read is sealed, and never grows or goes while it is written.
 * 4. `advance` remembers the place, so that a process that is killed repeats at most what was read since; while the
 *    disk does not take the place, more than that.
 */
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { logger } from '@slipway/telemetry'
import type { EventRecord } from './bus.ts'
import { decodeFrames, encodeFrame, measureFrames } from './spool-segment.ts'

/** When what is spooled is forced to the disk: with every batch (survives power loss), or left to the system (survives kill -9). */
export type SpoolSync = 'batch' | 'never'

/** The bounds and the place of the files. */
export interface SpoolFilesOptions {
  readonly directory: string
  readonly maxBytes: number
  readonly sync: SpoolSync
}

/** An open queue. */
export interface SpoolFiles {
  /** Records in the queue. */
  readonly records: number
  /** Bytes on disk. */
  readonly bytes: number
  /** Writes records to the end; returns how many of them, from the first on, fitted and are kept. */
  append(records: readonly EventRecord[]): Promise<number>
  /** The records at the front, at most so many; none when the front cannot be read as it was written. */
  read(maxRecords: number): Promise<readonly EventRecord[]>
  /** Removes what the last `read` gave. */
  advance(): Promise<void>
  /** Gives up the front segment; returns how many records that were. */
  dropFront(): Promise<number>
  close(): Promise<void>
}

interface Segment {
  readonly path: string
  bytes: number
  records: number
  /** Set until the next segment is begun. */
  handle: FileHandle | undefined
  /** Nothing is added any more. */
  isSealed: boolean
}

const segmentBytes = 4 * 1024 * 1024
const suffix = '.spool'
const log = logger('slipway.events')

/** Opens the folder and finds what an earlier process left. */
export async function openSpoolFiles(options: SpoolFilesOptions): Promise<SpoolFiles> {
  await mkdir(options.directory, { recursive: true })
  const positionPath = join(options.directory, 'position')
  const left = await recover(options.directory, positionPath)
  const segments = left.segments
  let startBytes = left.startBytes
  let nextNumber = left.nextNumber
  let front: { readonly segment: Segment; readonly content: Buffer } | undefined
  let given = { records: 0, endBytes: 0 }

  let turn: Promise<unknown> = Promise.resolve()

  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = turn.then(work)
    turn = done.catch(() => undefined)
    return done
  }

  const bytes = (): number => segments.reduce((sum, segment) => sum + segment.bytes, 0)

  async function writable(): Promise<{ segment: Segment; handle: FileHandle }> {
    const last = segments.at(-1)
    if (last?.handle !== undefined && !last.isSealed && last.bytes < segmentBytes) {
      return { segment: last, handle: last.handle }
    }
    await last?.handle?.close()
    if (last !== undefined) last.handle = undefined
    const path = join(options.directory, `${String(nextNumber).padStart(12, '0')}${suffix}`)
    nextNumber += 1
    const handle = await open(path, 'wx')
    if (options.sync === 'batch') await syncDirectory(options.directory)
    return { segment: { path, bytes: 0, records: 0, handle, isSealed: false }, handle }
  }

  function encodeFitting(records: readonly EventRecord[]): Buffer[] {
    const frames: Buffer[] = []
    let room = options.maxBytes - bytes()
    for (const record of records) {
      const frame = encodeFrame(record)
      if (frame.length > room) break
      room -= frame.length
      frames.push(frame)
    }
    return frames
  }

  async function append(records: readonly EventRecord[]): Promise<number> {
    const frames = encodeFitting(records)
    if (frames.length === 0) return 0
    try {
      const { segment, handle } = await writable()
      const content = Buffer.concat(frames)
      await write(segment, handle, content)
      segment.bytes += content.length
      segment.records += frames.length
      if (segments.at(-1) !== segment) segments.push(segment)
      return frames.length
    } catch (error) {
      log.warn('spool not written', { directory: options.directory, error })
      return 0
    }
  }

  async function write(segment: Segment, handle: FileHandle, content: Buffer): Promise<void> {
    try {
      await writeAll(handle, content, segment.bytes)
      if (options.sync === 'batch') await handle.datasync()
    } catch (error) {
      // What is half written must not be read by the next process.
      segment.isSealed = true
      await handle.truncate(segment.bytes).catch(() => undefined)
      if (segment.bytes === 0) {
        await handle.close().catch(() => undefined)
        await rm(segment.path, { force: true }).catch(() => undefined)
      }
      throw error
    }
  }

  async function read(maxRecords: number): Promise<readonly EventRecord[]> {
    const segment = segments[0]
    if (segment === undefined) return []
    segment.isSealed = true
    if (front?.segment !== segment || front.content.length < segment.bytes) {
      front = { segment, content: (await readFile(segment.path)).subarray(0, segment.bytes) }
    }
    const frames = decodeFrames(front.content, startBytes, maxRecords)
    given = { records: frames.length, endBytes: frames.at(-1)?.endBytes ?? startBytes }
    return frames.map(({ record }) => record)
  }

  async function advance(): Promise<void> {
    const segment = segments[0]
    if (segment === undefined) return
    segment.records -= given.records
    startBytes = given.endBytes
    if (startBytes >= segment.bytes) await removeFront(segment)
    else await savePosition(positionPath, segment.path, startBytes).catch(warnOfRepetition)
  }

  /** What was delivered is delivered: a disk that does not take note of it only makes the next process say it again. */
  function warnOfRepetition(error: unknown): void {
    log.warn('place in the spool not kept', { directory: options.directory, error })
  }

  async function dropFront(): Promise<number> {
    const segment = segments[0]
    if (segment === undefined) return 0
    log.error('spool segment cannot be read, its records are lost', { path: segment.path, records: segment.records })
    await removeFront(segment)
    return segment.records
  }

  async function removeFront(segment: Segment): Promise<void> {
    segments.shift()
    startBytes = 0
    front = undefined
    const { handle } = segment
    segment.handle = undefined
    await handle?.close().catch(warnOfRepetition)
    await rm(segment.path, { force: true }).catch(warnOfRepetition)
  }

  return {
    get records() {
      return segments.reduce((sum, segment) => sum + segment.records, 0)
    },
    get bytes() {
      return bytes()
    },
    append: (records) => inTurn(() => append(records)),
    read: (maxRecords) => inTurn(() => read(maxRecords)),
    advance: () => inTurn(advance),
    dropFront: () => inTurn(dropFront),
    close: () =>
      inTurn(async () => {
        for (const segment of segments) await segment.handle?.close()
      }),
  }
}

async function recover(
  directory: string,
  positionPath: string,
): Promise<{ segments: Segment[]; startBytes: number; nextNumber: number }> {
  const names = (await readdir(directory)).filter((name) => name.endsWith(suffix)).toSorted()
  const position = await loadPosition(positionPath)
  const segments: Segment[] = []
  let startBytes = 0
  for (const name of names) {
    const path = join(directory, name)
    const content = await readFile(path)
    const fromBytes = path === position?.path && segments.length === 0 ? position.startBytes : 0
    const { records, endBytes } = measureFrames(content, fromBytes)
    if (endBytes < content.length)
      log.warn('torn end of a spool segment left out', { path, bytes: content.length - endBytes })
    if (records === 0) {
      await rm(path)
      continue
    }
    if (segments.length === 0) startBytes = fromBytes
    segments.push({ path, bytes: endBytes, records, handle: undefined, isSealed: true })
  }
  return { segments, startBytes, nextNumber: Number(names.at(-1)?.slice(0, -suffix.length) ?? 0) + 1 }
}

async function savePosition(positionPath: string, path: string, startBytes: number): Promise<void> {
  await writeFile(`${positionPath}.new`, JSON.stringify({ path, startBytes }))
  await rename(`${positionPath}.new`, positionPath)
}

async function loadPosition(path: string): Promise<{ path: string; startBytes: number } | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as { path: string; startBytes: number }
  } catch {
    return undefined
  }
}

async function writeAll(handle: FileHandle, content: Buffer, position: number): Promise<void> {
  let written = 0
  while (written < content.length) {
    const { bytesWritten } = await handle.write(content, written, content.length - written, position + written)
    written += bytesWritten
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory)
  await handle.sync().finally(() => handle.close())
}
