import type { EventRecord, ReceivedRecord } from './bus.ts'
import { deadLetterTopic, limits, recordBytes } from './bus.ts'

/** Which record is poison and what lies underneath. */
export interface PoisonOptions {
  /** The record of the batch that cannot be handled; without it the batch is tried again record by record. */
  readonly record?: ReceivedRecord
  readonly cause?: unknown
}

/** Thrown by a handler: this record can never be handled, park it in its dead-letter topic and go on. */
export class Poison extends Error {
  readonly record: ReceivedRecord | undefined

  constructor(reason: string, options: PoisonOptions = {}) {
    super(reason, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'Poison'
    this.record = options.record
  }
}

/** Headers that a parked record has besides its own. */
export const deadLetterHeader = {
  reason: 'slipway-dead-letter-reason',
  group: 'slipway-dead-letter-group',
  topic: 'slipway-dead-letter-topic',
  partition: 'slipway-dead-letter-partition',
  offset: 'slipway-dead-letter-offset',
  timeMicros: 'slipway-dead-letter-time-micros',
  /** Only of a record that left no room for these headers: what its value had before the end of it was cut off. */
  valueBytes: 'slipway-dead-letter-value-bytes',
} as const

const maxReasonLength = 1000

/** The record that is parked in place of one that is poison. */
export function deadLetterOf(record: ReceivedRecord, group: string, poison: Poison): EventRecord {
  const letter = {
    topic: deadLetterTopic(record.topic),
    key: record.key,
    value: record.value,
    headers: {
      ...record.headers,
      [deadLetterHeader.reason]: poison.message.slice(0, maxReasonLength),
      [deadLetterHeader.group]: group,
      [deadLetterHeader.topic]: record.topic,
      [deadLetterHeader.partition]: String(record.partition),
      [deadLetterHeader.offset]: String(record.offset),
      [deadLetterHeader.timeMicros]: String(record.timeMicros),
    },
  }
  if (recordBytes(letter) <= limits.maxRecordBytes) return letter
  const headers = { ...letter.headers, [deadLetterHeader.valueBytes]: String(record.value.length) }
  const room = limits.maxRecordBytes - recordBytes({ ...letter, headers, value: new Uint8Array() })
  return { ...letter, headers, value: record.value.subarray(0, Math.max(0, room)) }
}
