/** What is published: bytes under a key in a topic. */
export interface EventRecord {
  readonly topic: string
  /** Records with the same key keep their order. */
  readonly key: string
  readonly value: Uint8Array
  /** Names are lower case; CloudEvents attributes and trace context travel here. */
  readonly headers: Readonly<Record<string, string>>
}

/** What a subscription is given: a record and where it lies. */
export interface ReceivedRecord extends EventRecord {
  readonly partition: number
  /** Position in the partition; grows, may have gaps. */
  readonly offset: bigint
  /** When the bus took the record, microseconds since the epoch. */
  readonly timeMicros: bigint
}

/** How a topic is laid out and how much of it is kept. */
export interface TopicSettings {
  readonly name: string
  /** The unit of order and of sharing work in a group. Fixed when the topic is first used. */
  readonly partitions: number
  /** Records older than this may be deleted. */
  readonly retentionMs: number
  /** The oldest records of a partition may be deleted when it is larger than this. */
  readonly retentionBytes: number
}

/** Where a group starts in partitions in which it has no position yet. */
export type StartPosition = 'earliest' | 'latest' | { readonly timeMicros: bigint }

/** What a handler gets besides its batch. */
export interface HandleContext {
  /** Aborted when the subscription stops or the partition went to another one: finish or give up. */
  readonly signal: AbortSignal
}

/** What to read, on whose behalf, and what to do with it. */
export interface SubscribeOptions {
  readonly topics: readonly string[]
  /** Names the readers that share the work and one position. */
  readonly group: string
  /** A reader of its own, whatever others are called; nothing of it is kept when it has stopped. Default false. */
  readonly isTemporary?: boolean
  /** Default `earliest`. */
  readonly from?: StartPosition
  /** Most records a batch has, default 500. */
  readonly maxBatchRecords?: number
  /** Does the effect of a batch; resolved means that it is done and durable. */
  handle(batch: readonly ReceivedRecord[], context: HandleContext): Promise<void>
}

/** A running reader. */
export interface Subscription {
  /** Ends it: no batch begins any more, the running one is waited for and its position kept. */
  stop(): Promise<void>
  /** Waits until the group has handled everything that was published before the call. */
  caughtUp(): Promise<void>
}

/** How publishing may be cut short. */
export interface PublishOptions {
  /** Stops the waiting; the records may be published all the same. */
  readonly signal?: AbortSignal
}

/**
 * The port for events. What every adapter promises, and the contract test checks:
 *
 * 1. What `publish` acknowledged survives the loss of any process. When it rejects, some, all or none of the records
 *    are there; publishing the same again may double them.
 * 2. Every group gets every record at least once: its position moves past a record only after a handler that got the
 *    record resolved, or the record was parked. A reader that dies is replaced by another of its group, which goes on
 *    from that position.
 * 3. Records of one topic with the same key are handled in the order in which one publisher gave them, within a call
 *    and from call to call. A record is never handled for the first time before all earlier ones of its key were.
 * 4. Within a group a partition has one reader at a time, and a partition without a reader gets one.
 * 5. A batch comes from one partition, in order, and has at most `maxBatchRecords` records and `limits.maxBatchBytes`
 *    (or one record). A subscription's handler is never called before its last call settled, and no more than
 *    `limits.maxReadAheadBytes` are read ahead of it.
 * 6. A group's start is fixed by its first `subscribe`, even if it handles nothing: later ones go on from there.
 *    `earliest` replays what is kept, a time replays from the first record that the bus took then or later.
 * 7. When a handler throws `Poison`, the record goes to `<topic>.dead-letter` with the reason and its origin in the
 *    headers, and the group goes on. After any other error the same records come again, after a growing delay, until
 *    they are handled or the subscription stops.
 * 8. Key, value and headers are read as they were written. `timeMicros` is the bus's own time of taking the record and
 *    never goes back within a partition.
 * 9. A record larger than `limits.maxRecordBytes` is refused with INVALID_ARGUMENT before anything of the call is
 *    written. More than `limits.maxPendingBytes` waiting to be published is refused with RESOURCE_EXHAUSTED.
 * 10. Topics need no setting up: one is made on first use as the adapter's `topics` say, else as `defaultTopic` says.
 * 11. A temporary subscription shares neither records nor position with any other, one of the same group's name included,
 *    and when it has stopped nothing of it is left; only one that died leaves a position behind, which nobody reads.
 */
export interface EventBus {
  /** Writes records; resolved means durable. */
  publish(records: readonly EventRecord[], options?: PublishOptions): Promise<void>
  /** Starts a reader; resolved means that its group's start is fixed. */
  subscribe(options: SubscribeOptions): Promise<Subscription>
  /** Stops all subscriptions, waits for what is being published, and lets go of the backend. */
  close(): Promise<void>
}

/** The bounds that every adapter keeps. */
export const limits = {
  /** Key, headers and value of one record together. */
  maxRecordBytes: 900 * 1024,
  /** What may wait in memory to be published. */
  maxPendingBytes: 64 * 1024 * 1024,
  maxBatchRecords: 500,
  maxBatchBytes: 4 * 1024 * 1024,
  /** What a subscription may hold in memory besides the batch that is being handled. */
  maxReadAheadBytes: 16 * 1024 * 1024,
  /** Delay before the first repetition after an error; it doubles from time to time up to `maxRetryMs`. */
  minRetryMs: 50,
  maxRetryMs: 10_000,
} as const

/** Settings of a topic that nobody has named. */
export function defaultTopic(name: string): TopicSettings {
  return { name, partitions: 4, retentionMs: 7 * 24 * 3600 * 1000, retentionBytes: 1024 ** 3 }
}

/** Name of the topic in which poison of another is parked. */
export function deadLetterTopic(topic: string): string {
  return `${topic}.dead-letter`
}

/** Bytes that a record counts with against the bounds. */
export function recordBytes(record: EventRecord): number {
  let bytes = record.value.length + Buffer.byteLength(record.key)
  for (const name in record.headers) bytes += Buffer.byteLength(name) + Buffer.byteLength(record.headers[name] ?? '')
  return bytes
}
