/**
 * A reader process, from the side of the service: started with its first task, ended when a task is aborted, started again with
 * the next. Tasks run one after another.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { Code, Failure } from '@slipway/rpc'
import { encodeFrame, type Frame, FrameReader } from './frames.ts'
import { InputError } from './input-error.ts'
import type { CallErrors, FromReader, ReaderLimits, ReaderResults, ReaderTask, ToReader } from './reader-protocol.ts'

/** Answers a call of a task: the output tensors, and which rows have none. */
export type AnswerCall = (
  inputs: readonly Buffer[],
  rows: number,
  first: number,
) => Promise<{ readonly tensors: readonly Buffer[]; readonly errors: CallErrors }>

/** How a task is run. */
export interface RunTask {
  readonly answer?: AnswerCall
  readonly signal?: AbortSignal
}

type ResultOf<T extends ReaderTask> = ReaderResults[T['kind']]

/** See the top of this file. */
export class Reader {
  readonly #limits: ReaderLimits
  #child: ChildProcess | undefined
  #last: Promise<unknown> = Promise.resolve()

  constructor(limits: ReaderLimits) {
    this.#limits = limits
  }

  /** Runs a task. Rejects with an InputError, with what `answer` rejected with, or with UNAVAILABLE when the process ended. */
  run<T extends ReaderTask>(task: T, options: RunTask = {}): Promise<ResultOf<T>> {
    const run = this.#last.then(() => this.#ask(task, options))
    this.#last = run.catch(() => undefined)
    return run as Promise<ResultOf<T>>
  }

  /** Ends the process; a task that runs is rejected. */
  async close(): Promise<void> {
    const child = this.#child
    if (child === undefined) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }

  #start(): ChildProcess {
    if (this.#child !== undefined) return this.#child
    mkdirSync(this.#limits.tempDirectory, { recursive: true })
    const script = fileURLToPath(new URL('./reader-worker.ts', import.meta.url))
    const child = spawn(process.execPath, [script, JSON.stringify(this.#limits)], {
      stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
    })
    const forget = (): void => {
      if (this.#child === child) this.#child = undefined
    }
    child.once('exit', forget).on('error', forget)
    // When the process is killed its end of the stream breaks; its exit says so.
    ;(child.stdio[3] as Duplex).on('error', () => undefined)
    this.#child = child
    return child
  }

  async #ask(task: ReaderTask, { answer, signal }: RunTask): Promise<ReaderResults[keyof ReaderResults]> {
    signal?.throwIfAborted()
    const child = this.#start()
    const stream = child.stdio[3] as Duplex
    const { promise, resolve, reject } = Promise.withResolvers<ReaderResults[keyof ReaderResults]>()
    let isOver = false
    // A query that runs cannot be asked to stop; the process can.
    const giveUp = (error: unknown): void => {
      if (isOver) return
      reject(error)
      child.kill('SIGKILL')
    }
    const say = (message: ToReader, pieces: readonly Buffer[] = []): void => {
      if (isOver || stream.destroyed) return
      stream.cork()
      for (const piece of encodeFrame(message, pieces)) stream.write(piece)
      stream.uncork()
    }
    const hear = (frame: Frame<FromReader>): void => {
      const { head, pieces } = frame
      if (head.kind === 'done') resolve(head.result)
      else if (head.kind === 'failed') reject(head.isInput ? new InputError(head.message) : new Error(head.message))
      else if (answer !== undefined) {
        const { call, rows, first } = head
        const startedMs = performance.now()
        answer(pieces, rows, first).then(({ tensors, errors }) => {
          frames.release(frame)
          say({ kind: 'answer', call, errors, elapsedMs: performance.now() - startedMs }, tensors)
        }, giveUp)
      }
    }
    const frames = new FrameReader<FromReader>(hear)
    const onData = (chunk: Buffer): void => frames.push(chunk)
    const onExit = (): void => reject(gone())
    const onAbort = (): void => giveUp(signal?.reason)
    stream.on('data', onData).on('error', onExit)
    child.once('exit', onExit).once('error', onExit)
    signal?.addEventListener('abort', onAbort, { once: true })
    say({ kind: 'task', task })
    try {
      return await promise
    } finally {
      isOver = true
      signal?.removeEventListener('abort', onAbort)
      stream.off('data', onData).off('error', onExit)
      child.off('exit', onExit).off('error', onExit)
      if (child.killed && child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    }
  }
}

function gone(): Failure {
  return new Failure(Code.UNAVAILABLE, 'BATCH_READER_DIED', 'the process that reads the files of a batch job ended')
}
