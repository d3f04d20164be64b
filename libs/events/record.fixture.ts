import { randomUUID } from 'node:crypto'
import type { EventRecord } from './bus.ts'

/** A name that no other test uses. */
export function unique(prefix: string): string {
  return `${prefix}-${randomUUID()}`
}

/** A record that carries a number. */
export function recordOf(topic: string, key: string, number: number): EventRecord {
  return { topic, key, value: Buffer.from(String(number)), headers: {} }
}

/** The number that a record carries. */
export function numberOf(record: EventRecord): number {
  return Number(Buffer.from(record.value).toString())
}

/** The integers of a range. */
export function numbers(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, index) => from + index)
}
