/**
 * Segment files of a spool: frames of one record each, behind one another.
 *
 *     frame   = length of payload (u32), CRC-32 of payload (u32), payload
 *     payload = lengths of topic, key, headers (u32 each), topic, key, headers as JSON, value
 *
 * A frame counts only when it is whole and its CRC fits: what follows the first that does not is a torn write.
 */
import { crc32 } from 'node:zlib'
import type { EventRecord } from './bus.ts'

const frameHeaderBytes = 8
const payloadHeaderBytes = 12

/** A record and the place behind its frame. */
export interface FramedRecord {
  readonly record: EventRecord
  readonly endBytes: number
}

/** The frame of one record. */
export function encodeFrame(record: EventRecord): Buffer {
  const topic = Buffer.from(record.topic)
  const key = Buffer.from(record.key)
  const headers = Buffer.from(JSON.stringify(record.headers))
  const payloadBytes = payloadHeaderBytes + topic.length + key.length + headers.length + record.value.length
  const frame = Buffer.allocUnsafe(frameHeaderBytes + payloadBytes)
  frame.writeUInt32LE(payloadBytes, 0)
  frame.writeUInt32LE(topic.length, frameHeaderBytes)
  frame.writeUInt32LE(key.length, frameHeaderBytes + 4)
  frame.writeUInt32LE(headers.length, frameHeaderBytes + 8)
  let at = frameHeaderBytes + payloadHeaderBytes
  for (const part of [topic, key, headers, record.value]) {
    frame.set(part, at)
    at += part.length
  }
  frame.writeUInt32LE(crc32(frame.subarray(frameHeaderBytes)), 4)
  return frame
}

/** The whole frames of a segment from a place on, at most so many. */
export function decodeFrames(segment: Buffer, fromBytes: number, maxRecords: number): FramedRecord[] {
  const frames: FramedRecord[] = []
  let at = fromBytes
  while (frames.length < maxRecords) {
    const endBytes = wholeFrameEnd(segment, at)
    if (endBytes === undefined) break
    frames.push({ record: decodePayload(segment.subarray(at + frameHeaderBytes, endBytes)), endBytes })
    at = endBytes
  }
  return frames
}

/** How many whole frames there are from a place on, and where the last one ends. */
export function measureFrames(segment: Buffer, fromBytes: number): { records: number; endBytes: number } {
  let records = 0
  let at = fromBytes
  for (;;) {
    const endBytes = wholeFrameEnd(segment, at)
    if (endBytes === undefined) return { records, endBytes: at }
    records += 1
    at = endBytes
  }
}

function wholeFrameEnd(segment: Buffer, at: number): number | undefined {
  if (at + frameHeaderBytes + payloadHeaderBytes > segment.length) return undefined
  const endBytes = at + frameHeaderBytes + segment.readUInt32LE(at)
  if (endBytes > segment.length || endBytes < at + frameHeaderBytes + payloadHeaderBytes) return undefined
  const isIntact = crc32(segment.subarray(at + frameHeaderBytes, endBytes)) === segment.readUInt32LE(at + 4)
  return isIntact ? endBytes : undefined
}

function decodePayload(payload: Buffer): EventRecord {
  let at = payloadHeaderBytes
  const next = (length: number): Buffer => {
    at += length
    return payload.subarray(at - length, at)
  }
  const topic = next(payload.readUInt32LE(0)).toString()
  const key = next(payload.readUInt32LE(4)).toString()
  const headers = JSON.parse(next(payload.readUInt32LE(8)).toString()) as Record<string, string>
  return { topic, key, headers, value: payload.subarray(at) }
}
