/**
 * The thread that owns an embedded bus's file, so that no fsync ever holds up the event loop of the service.
 *
 * 1. Everything that arrives while one transaction is being made durable is in the next one (group commit).
 * 2. A transaction with records is on disk before any of its operations is answered. One without (leases, positions)
 *    survives the loss of the process, not of power: then records come again.
 * 3. An operation that fails takes no other with it: they are tried again one by one.
 */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import type { TopicSettings } from './bus.ts'
import { createEventGroups } from './embedded-groups.ts'
import { createEventLog } from './embedded-log.ts'
import {
  type Operation,
  type PackedBatch,
  type PartitionOffset,
  pack,
  type Request,
  unpack,
} from './embedded-protocol.ts'
import { openEventFile } from './embedded-schema.ts'

const pollIntervalMs = 10
const pruneIntervalMs = 30_000
const pruneRecords = 2000
const readOnly: ReadonlySet<Operation['kind']> = new Set(['define', 'read', 'behind', 'close'])

if (parentPort !== null) serve(parentPort, workerData as { path: string })

function serve(port: MessagePort, { path }: { path: string }): void {
  const settings = new Map<string, TopicSettings>()
  const database = openEventFile(path)
  const log = createEventLog(database, settings)
  const groups = createEventGroups(database, log)
  const dataVersion = database.prepare('PRAGMA data_version')
  let synchronous = 'FULL'
  let tails = log.tails()
  let seenVersion: unknown
  let waiting: Request[] = []

  function run(operation: Operation): unknown {
    switch (operation.kind) {
      case 'define':
        for (const topic of operation.topics) settings.set(topic.name, topic)
        return undefined
      case 'append':
        return log.append(unpack(operation.packed), Date.now() * 1000)
      case 'join':
        return groups.join(operation.member, operation.from, Date.now())
      case 'claim':
        return groups.claim(operation.member, operation.busyPartitionId, Date.now())
      case 'commit':
        return groups.commit(operation.member, operation.partitionId, operation.nextOffset)
      case 'leave':
        return groups.leave(operation.member)
      case 'read':
        return readFirst(operation)
      case 'ends':
        return operation.topics
          .flatMap((topic) => log.partitionsOf(topic))
          .map((partition) => ({ partition, offset: log.endOf(partition) }))
      case 'behind':
        return operation.ends.some((end) => isBehind(operation.group, end))
      case 'close':
        return undefined
    }
  }

  /** Whether the group has records to read before an end; what retention took from it is not waited for. */
  function isBehind(group: string, { partition, offset }: PartitionOffset): boolean {
    return groups.positionOf(group, partition.id) < offset && log.startOf(partition, 'earliest') < offset
  }

  function readFirst({ claims, maxRecords, maxBytes }: Extract<Operation, { kind: 'read' }>): PackedBatch | undefined {
    for (const { partition, nextOffset } of claims) {
      const endOffset = tails.get(partition.id) ?? 0
      if (endOffset <= nextOffset) continue
      const records = log.read(partition, nextOffset, maxRecords, maxBytes)
      if (records.length > 0) return { partition, packed: pack(records), endOffset }
    }
    return undefined
  }

  function inTransaction(level: 'FULL' | 'NORMAL', work: () => void): void {
    if (level !== synchronous) database.exec(`PRAGMA synchronous = ${level}`)
    synchronous = level
    database.exec('BEGIN IMMEDIATE')
    try {
      work()
      database.exec('COMMIT')
    } catch (error) {
      if (database.isTransaction) database.exec('ROLLBACK')
      log.forget()
      throw error
    }
  }

  function runAll(requests: readonly Request[]): void {
    const results = new Map<number, unknown>()
    const work = () => {
      for (const { id, operation } of requests) results.set(id, run(operation))
    }
    try {
      if (requests.every(({ operation }) => readOnly.has(operation.kind))) work()
      else inTransaction(requests.some(({ operation }) => operation.kind === 'append') ? 'FULL' : 'NORMAL', work)
    } catch (error) {
      if (requests.length === 1) answerError(requests[0]?.id ?? 0, error)
      else for (const request of requests) runAll([request])
      return
    }
    for (const [id, result] of results) answer(id, result)
  }

  function answer(id: number, result: unknown): void {
    const values = (result as PackedBatch | undefined)?.packed?.values
    port.postMessage({ id, result }, values === undefined ? [] : [values.buffer])
  }

  function answerError(id: number, error: unknown): void {
    port.postMessage({ id, error: error instanceof Error ? error.message : String(error) })
  }

  /** Tells which partitions have grown since the last time, through this process or another. */
  function notice(): void {
    const now = log.tails()
    const appendedPartitionIds = [...now].filter(([id, next]) => next > (tails.get(id) ?? 0)).map(([id]) => id)
    tails = now
    if (appendedPartitionIds.length > 0) port.postMessage({ appendedPartitionIds })
  }

  function flush(): void {
    const requests = waiting
    waiting = []
    runAll(requests)
    if (requests.some(({ operation }) => operation.kind === 'append' || operation.kind === 'join')) notice()
    if (requests.some(({ operation }) => operation.kind === 'close')) close()
  }

  function poll(): void {
    const version = dataVersion.get()?.data_version
    if (version === seenVersion) return
    seenVersion = version
    notice()
  }

  function prune(): void {
    let pruned = 0
    try {
      inTransaction('NORMAL', () => {
        pruned = log.prune(Date.now() * 1000, pruneRecords)
      })
    } catch {
      // Another process holds the file for long, or the disk is full: the next turn tries again.
    }
    pruning = setTimeout(prune, pruned < pruneRecords ? pruneIntervalMs : 0)
  }

  function close(): void {
    clearInterval(polling)
    clearTimeout(pruning)
    database.close()
    port.close()
  }

  const polling = setInterval(poll, pollIntervalMs)
  let pruning: NodeJS.Timeout | undefined
  prune()
  port.on('message', (request: Request) => {
    waiting.push(request)
    if (waiting.length === 1) setImmediate(flush)
  })
}
