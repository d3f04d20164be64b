/**
 * Records as bytes in a file: one frame a call, `length` and CRC-32 of the payload as four little-endian bytes each, then the
 * payload. A frame that the process died in is cut off or does not match its checksum: reading stops there, and nothing
 * after it was acknowledged.
 */
import { crc32 } from 'node:zlib'
import type { EventRecord } from '@slipway/events'
import { FieldReader } from './wire-reader.ts'
import { FieldWriter } from './wire-writer.ts'

const HEADER_BYTES = 8
const writer = new FieldWriter()

/** Records as one frame. */
export function encodeFrame(records: readonly EventRecord[]): Buffer {
  writer.clear()
  for (const record of records) {
    const opened = writer.open(1)
    writer.text(1, record.topic)
    writer.text(2, record.key)
    writer.bytes(3, record.value)
    for (const [name, value] of Object.entries(record.headers)) {
      const header = writer.open(4)
      writer.text(1, name)
      writer.text(2, value)
      writer.close(header)
    }
    writer.close(opened)
  }
  const payload = writer.take()
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt32LE(payload.length, 0)
  header.writeUInt32LE(crc32(payload), 4)
  return Buffer.concat([header, payload])
}

/** The records of all whole frames, up to the first that is not. */
export function decodeFrames(content: Buffer): EventRecord[] {
  const records: EventRecord[] = []
  let at = 0
  while (at + HEADER_BYTES <= content.length) {
    const start = at + HEADER_BYTES
    const payload = content.subarray(start, start + content.readUInt32LE(at))
    if (payload.length < content.readUInt32LE(at) || crc32(payload) !== content.readUInt32LE(at + 4)) break
    const reader = new FieldReader(payload)
    while (reader.next()) records.push(decodeRecord(reader.message()))
    at = start + payload.length
  }
  return records
}

function decodeRecord(reader: FieldReader): EventRecord {
  let topic = ''
  let key = ''
  let value: Uint8Array = new Uint8Array()
  const headers: Record<string, string> = {}
  while (reader.next()) {
    if (reader.field === 1) topic = reader.text()
    else if (reader.field === 2) key = reader.text()
    else if (reader.field === 3) value = reader.bytes()
    else if (reader.field === 4) {
      const header = reader.message()
      let name = ''
      while (header.next()) {
        if (header.field === 1) name = header.text()
        else if (header.field === 2) headers[name] = header.text()
      }
    }
  }
  return { topic, key, value, headers }
}
