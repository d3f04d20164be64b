/**
 * An executor in a process of its own: a model that crashes or leaks takes nothing with it but the batch that it runs.
 *
 * It is handed one batch at a time, so nothing waits where it could not be withdrawn any more. The price against a thread is a copy
 * of each tensor through a socket, and about 20 microseconds a batch.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import type { Duplex, Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import {
  type Batch,
  type Executor,
  type ExecutorEvents,
  MAX_HEAP_MIB,
  MAX_KNOWN_GROUPS,
  type StartExecutor,
} from './executor.ts'
import { inputSize, MAX_KEPT_BUFFER_BYTES, memoryOver, readAnswer, writeInput } from './layout.ts'
import { CHANNEL, encodeHead, type Frame, type FrameKind, frameKind, frameReader } from './process-frames.ts'
import { awaitStart, type Listener } from './starting.ts'

const MAX_KEPT_ERROR_CHARACTERS = 4096
const MAX_REASON_CHARACTERS = 200

/** How processes are run. */
export interface ProcessOptions {
  /** Above so much memory a process is replaced after its batch; without it none is. */
  readonly maxMemoryBytes?: number
  readonly maxHeapMib?: number
}

/** Starts an executor in a process that runs `script`, by default the ONNX Runtime one. */
export function createProcessExecutor(
  script: URL = new URL('./process-worker.ts', import.meta.url),
  { maxMemoryBytes = Number.POSITIVE_INFINITY, maxHeapMib = MAX_HEAP_MIB }: ProcessOptions = {},
): StartExecutor {
  return async ({ model, intraOpThreads, events, signal }) => {
    const child = new Child(script, [`--max-old-space-size=${maxHeapMib}`], [String(intraOpThreads)])
    try {
      const ready = await awaitStart<Frame>((resolve, reject) => {
        child.listener = {
          hear: (frame) => (frame.kind === frameKind.ready ? resolve(frame) : reject(new Error(textOf(frame)))),
          gone: (reason) => reject(new Error(`the process ended while loading: ${reason}`)),
        }
        if (typeof model === 'string') child.say(frameKind.modelPath, Buffer.from(model))
        else child.say(frameKind.modelBytes, model)
      }, signal)
      return new ProcessExecutor(child, events, maxMemoryBytes, ready.memoryKib)
    } catch (error) {
      await child.end()
      throw error
    }
  }
}

/** A process, its channel, and who listens to it. */
class Child {
  listener: Listener<Frame> | undefined
  readonly #process: ChildProcess
  readonly #channel: Duplex
  readonly #ended: Promise<void>
  #end: string | undefined

  constructor(script: URL, flags: readonly string[], args: readonly string[]) {
    this.#process = spawn(process.execPath, [...flags, fileURLToPath(script), ...args], {
      // The server's environment holds what no model's process needs to know.
      env: {},
      stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
      windowsHide: true,
    })
    this.#channel = this.#process.stdio[CHANNEL] as Duplex
    this.#channel.on(
      'data',
      frameReader(MAX_KEPT_BUFFER_BYTES, (frame) => this.listener?.hear(frame)),
    )
    // A channel that breaks is told of by the end of the process.
    this.#channel.on('error', () => this.#process.kill('SIGKILL'))
    const errors = keepTail(this.#process.stderr)
    this.#ended = new Promise((resolve) => {
      const gone = (reason: string): void => {
        this.#end ??= reason
        this.listener?.gone(this.#end)
        resolve()
      }
      this.#process.on('error', (error) => gone(error.message))
      // Not before everything that it had written is read.
      this.#process.on('close', (code, signal) => {
        const how = signal === null ? `exit code ${code}` : signal
        const why = firstError(errors())
        gone(why === undefined ? how : `${why} (${how})`)
      })
    })
  }

  say(kind: FrameKind, payload: Uint8Array = Buffer.alloc(0)): void {
    if (this.#end !== undefined) this.listener?.gone(this.#end)
    else {
      this.#channel.cork()
      this.#channel.write(encodeHead(kind, payload.length))
      if (payload.length > 0) this.#channel.write(payload)
      this.#channel.uncork()
    }
  }

  async end(): Promise<void> {
    this.#process.kill('SIGKILL')
    await this.#ended
  }
}

function keepTail(stream: Readable | null): () => string {
  let text = ''
  stream?.setEncoding('utf8').on('data', (piece: string) => {
    text = (text + piece).slice(-MAX_KEPT_ERROR_CHARACTERS)
  })
  return () => text
}

function firstError(text: string): string | undefined {
  return text
    .split('\n')
    .find((line) => /error/i.test(line))
    ?.trim()
    .slice(0, MAX_REASON_CHARACTERS)
}

function textOf({ payload, length }: Frame): string {
  return payload.bytes.toString('utf8', 0, length)
}

class ProcessExecutor implements Executor, Listener<Frame> {
  readonly slots = 1
  readonly #child: Child
  readonly #events: ExecutorEvents
  readonly #maxMemoryBytes: number
  readonly #known = new Set<number>()
  #memoryBytes: number
  #batch: Batch | undefined
  #closed = false

  constructor(child: Child, events: ExecutorEvents, maxMemoryBytes: number, memoryKib: number) {
    this.#child = child
    this.#events = events
    this.#maxMemoryBytes = maxMemoryBytes
    this.#memoryBytes = memoryKib * 1024
    child.listener = this
  }

  get running(): number {
    return this.#batch === undefined ? 0 : 1
  }

  get memoryBytes(): number {
    return this.#memoryBytes
  }

  run(batch: Batch): void {
    if (this.#batch !== undefined || this.#closed)
      throw new Error('a batch was given to an executor without a free slot')
    const { group } = batch
    if (!this.#known.has(group.id)) this.#introduce(batch)
    // Memory of its own: it is written when the socket takes it.
    const memory = memoryOver(Buffer.allocUnsafeSlow(inputSize(batch)).buffer)
    const length = writeInput(batch, memory)
    this.#batch = batch
    this.#child.say(frameKind.batch, memory.bytes.subarray(0, length))
  }

  withdraw(): void {
    // What was handed to the process runs already.
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#child.end()
  }

  hear(frame: Frame): void {
    const batch = this.#batch
    this.#memoryBytes = frame.memoryKib * 1024
    if (batch === undefined) return
    this.#batch = undefined
    if (frame.kind === frameKind.answer) this.#events.done(batch, readAnswer(frame.payload, batch.group.outputs.length))
    else if (frame.kind === frameKind.failed) this.#events.failed(batch, textOf(frame))
    else if (frame.kind === frameKind.skipped) this.#events.skipped?.(batch)
    if (this.#memoryBytes <= this.#maxMemoryBytes || this.#closed) return
    this.#events.worn?.(`its process holds ${this.#memoryBytes} bytes, more than ${this.#maxMemoryBytes}`)
  }

  gone(reason: string): void {
    if (this.#closed) return
    this.#closed = true
    const batch = this.#batch
    this.#batch = undefined
    this.#events.died(batch === undefined ? [] : [batch], reason)
  }

  #introduce({ group }: Batch): void {
    if (this.#known.size >= MAX_KNOWN_GROUPS) {
      this.#known.clear()
      this.#child.say(frameKind.forgetGroups)
    }
    this.#known.add(group.id)
    const { id, inputs, outputs } = group
    this.#child.say(frameKind.group, Buffer.from(JSON.stringify({ id, inputs, outputs })))
  }
}
