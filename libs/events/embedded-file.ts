/**
 * This side of the thread that owns a bus's file. Buses of one process on the same file share one thread: they then
 * commit together and wake each other at once.
 */
import { mkdirSync, realpathSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { Code, Failure } from '@slipway/rpc'
import type { Answer, Operation, Results } from './embedded-protocol.ts'

/** An open file. */
export interface EventFile {
  /** Asks the thread; rejects with UNAVAILABLE when the file cannot be used. */
  ask<K extends Operation['kind']>(
    operation: Extract<Operation, { kind: K }>,
    transfer?: readonly ArrayBuffer[],
  ): Promise<Results[K]>
  /** Calls back whenever partitions have new records; returns how to stop that. */
  onAppend(listener: (partitionIds: readonly number[]) => void): () => void
  /** Lets go of it; the last one closes the file. */
  release(): Promise<void>
}

interface Waiting {
  resolve(result: unknown): void
  reject(error: Failure): void
}

interface Shared extends Omit<EventFile, 'release'> {
  users: number
  close(): Promise<void>
}

const open = new Map<string, Shared>()

/** Opens a file or joins those of this process that have it open. */
export function openEventFileThread(path: string): EventFile {
  mkdirSync(dirname(path), { recursive: true })
  const key = join(realpathSync(dirname(path)), basename(path))
  const shared = open.get(key) ?? start(key)
  open.set(key, shared)
  shared.users += 1
  let released = false
  return {
    ask: shared.ask,
    onAppend: shared.onAppend,
    release: async () => {
      if (released) return
      released = true
      shared.users -= 1
      if (shared.users > 0) return
      open.delete(key)
      await shared.close()
    },
  }
}

function start(path: string): Shared {
  const worker = new Worker(new URL('./embedded-thread.ts', import.meta.url), {
    workerData: { path },
    name: 'slipway-events',
    execArgv: ['--disable-warning=ExperimentalWarning'],
  })
  worker.unref()
  const waiting = new Map<number, Waiting>()
  const listeners = new Set<(partitionIds: readonly number[]) => void>()
  let broken: Failure | undefined
  let lastId = 0

  function breakWith(cause: unknown): void {
    if (broken === undefined) open.delete(path)
    broken ??= unavailable(`the event file ${path} cannot be used`, cause)
    for (const { reject } of waiting.values()) reject(broken)
    waiting.clear()
  }

  function settle(id: number, act: (waiting: Waiting) => void): void {
    const one = waiting.get(id)
    waiting.delete(id)
    if (waiting.size === 0) worker.unref()
    if (one !== undefined) act(one)
  }

  worker.on('message', (answer: Answer) => {
    if ('appendedPartitionIds' in answer) for (const listener of listeners) listener(answer.appendedPartitionIds)
    else if ('error' in answer) settle(answer.id, ({ reject }) => reject(unavailable(answer.error)))
    else settle(answer.id, ({ resolve }) => resolve(answer.result))
  })
  worker.on('error', breakWith)
  const exited = new Promise<void>((resolve) => {
    worker.on('exit', (code) => {
      breakWith(new Error(`its thread ended with ${code}`))
      resolve()
    })
  })

  const ask: EventFile['ask'] = (operation, transfer = []) => {
    if (broken !== undefined) return Promise.reject(broken)
    return new Promise((resolve, reject) => {
      lastId += 1
      if (waiting.size === 0) worker.ref()
      waiting.set(lastId, { resolve: resolve as (result: unknown) => void, reject })
      worker.postMessage({ id: lastId, operation }, transfer)
    })
  }
  return {
    users: 0,
    ask,
    onAppend: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close: async () => {
      await ask({ kind: 'close' }).catch(() => undefined)
      worker.ref()
      await exited
    },
  }
}

function unavailable(message: string, cause?: unknown): Failure {
  return new Failure(Code.UNAVAILABLE, 'EVENT_BUS_UNAVAILABLE', message, cause === undefined ? {} : { cause })
}
