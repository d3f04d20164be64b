/** What the thread of an embedded bus is asked and answers. */
import type { EventRecord, ReceivedRecord, StartPosition, TopicSettings } from './bus.ts'
import type { Claim, Member } from './embedded-groups.ts'
import type { LoggedRecord, Partition, StoredRecord } from './embedded-log.ts'

/** Records with their values in one buffer, so that passing them between threads moves bytes instead of cloning. */
export interface PackedRecords<R extends StoredRecord> {
  readonly records: readonly (Omit<R, 'value'> & { readonly length: number })[]
  readonly values: Uint8Array<ArrayBuffer>
}

/** One batch of a partition. */
export interface PackedBatch {
  readonly partition: Partition
  readonly packed: PackedRecords<LoggedRecord>
  /** End of the partition. */
  readonly endOffset: number
}

/** An offset in a partition. */
export interface PartitionOffset {
  readonly partition: Partition
  readonly offset: number
}

/** What can be asked. */
export type Operation =
  | { readonly kind: 'define'; readonly topics: readonly TopicSettings[] }
  | { readonly kind: 'append'; readonly packed: PackedRecords<StoredRecord> }
  | { readonly kind: 'join'; readonly member: Member; readonly from: StartPosition }
  | { readonly kind: 'claim'; readonly member: Member; readonly busyPartitionId: number | undefined }
  | { readonly kind: 'commit'; readonly member: Member; readonly partitionId: number; readonly nextOffset: number }
  | { readonly kind: 'leave'; readonly member: Member }
  | { readonly kind: 'read'; readonly claims: readonly Claim[]; readonly maxRecords: number; readonly maxBytes: number }
  | { readonly kind: 'ends'; readonly topics: readonly string[] }
  | { readonly kind: 'behind'; readonly group: string; readonly ends: readonly PartitionOffset[] }
  | { readonly kind: 'close' }

/** What is answered, by kind of operation. */
export interface Results {
  define: undefined
  append: undefined
  join: undefined
  claim: readonly Claim[]
  commit: boolean
  leave: undefined
  /** The first of the claims that has records. */
  read: PackedBatch | undefined
  ends: readonly PartitionOffset[]
  /** Whether the group's position is before one of the ends. */
  behind: boolean
  close: undefined
}

/** To the thread. */
export interface Request {
  readonly id: number
  readonly operation: Operation
}

/** From the thread: answers, and which partitions have new records. */
export type Answer =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: string }
  | { readonly appendedPartitionIds: readonly number[] }

/** Packs stored records; the values are copied. */
export function pack<R extends StoredRecord>(records: readonly R[]): PackedRecords<R> {
  const values = new Uint8Array(records.reduce((sum, record) => sum + record.value.length, 0))
  let at = 0
  const rest = records.map(({ value, ...record }) => {
    values.set(value, at)
    at += value.length
    return { ...record, length: value.length }
  })
  return { records: rest, values }
}

/** Unpacks; the values are views of the one buffer. */
export function unpack<R extends StoredRecord>(packed: PackedRecords<R>): R[] {
  let at = 0
  return packed.records.map(({ length, ...record }) => {
    at += length
    return { ...record, value: packed.values.subarray(at - length, at) } as unknown as R
  })
}

/** As the file keeps it. */
export function storedOf(record: EventRecord): StoredRecord {
  return { topic: record.topic, key: record.key, headers: JSON.stringify(record.headers), value: record.value }
}

/** As a subscription gets it. */
export function receivedOf(record: LoggedRecord, partition: Partition): ReceivedRecord {
  return {
    topic: record.topic,
    key: record.key,
    value: record.value,
    headers: JSON.parse(record.headers) as Record<string, string>,
    partition: partition.number,
    offset: BigInt(record.offset),
    timeMicros: BigInt(record.timeMicros),
  }
}
