/**
 * The offline store on DuckDB and Parquet, in a process of its own: it starts with the first task, is ended when a task
 * is aborted, and starts again with the next. Tasks run one after another.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { Code, Failure } from '@slipway/rpc'
import type { Part } from '../journal.ts'
import type { OfflineStore, OnProgress } from './offline-store.ts'
import type { WorkerAnswer, WorkerLimits, WorkerResult, WorkerTask } from './protocol.ts'

type Task =
  | Pick<WorkerTask & { kind: 'flush' }, 'kind' | 'flush'>
  | Pick<WorkerTask & { kind: 'join' }, 'kind' | 'join'>

/** Makes the store; no process is started yet. */
export function openDuckDbOfflineStore(limits: WorkerLimits): OfflineStore {
  mkdirSync(limits.tempDirectory, { recursive: true })
  let child: ChildProcess | undefined
  let turn: Promise<unknown> = Promise.resolve()
  let nextId = 1

  const worker = (): ChildProcess => {
    if (child?.connected) return child
    const started = fork(fileURLToPath(new URL('./duckdb-worker.ts', import.meta.url)), [JSON.stringify(limits)], {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    started.once('exit', () => {
      if (child === started) child = undefined
    })
    child = started
    return started
  }
  const run = async (task: Task, onProgress: OnProgress, signal?: AbortSignal): Promise<WorkerResult> => {
    signal?.throwIfAborted()
    return await ask(worker(), { id: nextId++, ...task } as WorkerTask, onProgress, signal)
  }
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const done = turn.then(work)
    turn = done.catch(() => undefined)
    return done
  }
  return {
    flush: (flush) => inTurn(async () => (await run({ kind: 'flush', flush }, () => undefined)) as Part | undefined),
    join: (join, { onProgress, signal }) =>
      inTurn(async () => {
        try {
          return (await run({ kind: 'join', join }, onProgress, signal)) as number
        } finally {
          await rm(`${join.outputPath}.part`, { force: true })
        }
      }),
    close: async () => {
      await turn
      child?.disconnect()
    },
  }
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
  const onExit = () =>
    reject(new Failure(Code.UNAVAILABLE, 'OFFLINE_STORE_DIED', 'the process that makes training sets ended; try again'))
  // A query that is running cannot be asked to stop; the process can.
  const onAbort = () => child.kill('SIGKILL')
  child.on('message', onMessage)
  child.once('exit', onExit)
  signal?.addEventListener('abort', onAbort, { once: true })
  child.send(task)
  return promise.finally(() => {
    child.off('message', onMessage)
    child.off('exit', onExit)
    signal?.removeEventListener('abort', onAbort)
  })
}

function failureOf(answer: { error: string; invalid: boolean }): Error {
  if (!answer.invalid) return new Error(answer.error)
  const [field = '', ...rest] = answer.error.split(': ')
  return Failure.invalid(field, rest.join(': '))
}
