/**
 * The offline store on DuckDB and Parquet, in a process of its own: it starts with the first task, is ended when a task
 * is aborted, and starts again with the next. Tasks run one after another. A task whose process is killed from outside
 * is tried once more in a new one.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { Code, Failure } from '@slipway/rpc'
import type { Part } from '../journal.ts'
import { createTurns } from '../turns.ts'
import type { OfflineStore, OnProgress } from './offline-store.ts'
import type { WorkerAnswer, WorkerLimits, WorkerResult, WorkerTask } from './protocol.ts'

type Task =
  | Pick<WorkerTask & { kind: 'flush' }, 'kind' | 'flush'>
  | Pick<WorkerTask & { kind: 'join' }, 'kind' | 'join'>

const maxAttempts = 2

/** Makes the store; no process is started yet. `onStart` is told the id of each one that is. */
export function openDuckDbOfflineStore(
  limits: WorkerLimits,
  onStart: (pid: number | undefined) => void = () => undefined,
): OfflineStore {
  mkdirSync(limits.tempDirectory, { recursive: true })
  const turns = createTurns()
  let child: ChildProcess | undefined
  let nextId = 1

  const worker = (): ChildProcess => {
    if (child?.connected) return child
    const started = fork(fileURLToPath(new URL('./duckdb-worker.ts', import.meta.url)), [JSON.stringify(limits)], {
      serialization: 'advanced',
      // What this process was told to load before its main module is not for the worker.
      execArgv: [],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    const gone = () => {
      if (child === started) child = undefined
    }
    started.once('exit', gone).on('error', gone)
    child = started
    onStart(started.pid)
    return started
  }
  const run = async (task: Task, onProgress: OnProgress, signal?: AbortSignal): Promise<WorkerResult> => {
    for (let attempt = 1; ; attempt += 1) {
      signal?.throwIfAborted()
      try {
        return await ask(worker(), { id: nextId++, ...task } as WorkerTask, onProgress, signal)
      } catch (error) {
        signal?.throwIfAborted()
        if (!(error instanceof WorkerDied)) throw error
        if (attempt === maxAttempts) throw died(error)
      }
    }
  }
  return {
    flush: (flush) =>
      turns.take(async () => (await run({ kind: 'flush', flush }, () => undefined)) as Part | undefined),
    join: (join, { onProgress, signal }) =>
      turns.take(async () => {
        try {
          return (await run({ kind: 'join', join }, onProgress, signal)) as number
        } finally {
          await rm(`${join.outputPath}.part`, { force: true })
        }
      }, signal),
    close: async () => {
      await turns.take(async () => {
        if (child === undefined) return
        const ended = once(child, 'exit')
        child.kill('SIGKILL')
        await ended
      })
    },
  }
}

class WorkerDied extends Error {}

function died(cause: WorkerDied): Failure {
  const message = 'the process that makes training sets ended before it was done; try again'
  return new Failure(Code.UNAVAILABLE, 'OFFLINE_STORE_DIED', message, { cause })
}

function ask(
  child: ChildProcess,
  task: WorkerTask,
  onProgress: OnProgress,
  signal?: AbortSignal,
): Promise<WorkerResult> {
  const { promise, resolve, reject } = Promise.withResolvers<WorkerResult>()
  const onMessage = (answer: WorkerAnswer) => {
    if (answer.id !== task.id) return
    if ('done' in answer) onProgress(answer.done, answer.stage)
    else if ('result' in answer) resolve(answer.result)
    else reject(failureOf(answer))
  }
  const onExit = () => reject(new WorkerDied('exited'))
  const onError = (error: Error) => reject(new WorkerDied('cannot be started or reached', { cause: error }))
  // A query that is running cannot be asked to stop; the process can.
  const onAbort = () => child.kill('SIGKILL')
  child.on('message', onMessage).once('exit', onExit).once('error', onError)
  signal?.addEventListener('abort', onAbort, { once: true })
  child.send(task, (error) => {
    // Its exit tells that it is gone, and when.
    if (error !== null && child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
  })
  return promise.finally(() => {
    child.off('message', onMessage).off('exit', onExit).off('error', onError)
    signal?.removeEventListener('abort', onAbort)
  })
}

function failureOf(answer: { error: string; invalid: boolean }): Error {
  if (!answer.invalid) return new Error(answer.error)
  const [field = '', ...rest] = answer.error.split(': ')
  return Failure.invalid(field, rest.join(': '))
}
