/**
 * Threads for executors. Starting one costs more than opening a small model in it, so those whose model was let go are kept for the
 * next model: a swap of versions starts no thread.
 */
import { Worker } from 'node:worker_threads'
import type { Batch } from './executor.ts'
import type { Memory } from './layout.ts'
import type { Listener } from './starting.ts'
import type { FromThread, ToThread } from './thread-messages.ts'

/** Threads without a model that are kept. */
const MAX_SPARE_THREADS = 4
/** A thread that takes longer to give its model back is ended. */
const CLOSE_LIMIT_MS = 1000

/** A batch's place in memory that the event loop and a thread share. */
export interface Slot {
  input: Memory<SharedArrayBuffer>
  output: Memory<SharedArrayBuffer>
  batch: Batch | undefined
  /** The answers of its last batch are being read. */
  isRead: boolean
}

/** A thread, and who listens to it. */
export class Thread {
  /** Its memory, which stays with it when the model goes: shared memory that is given up is only collected by chance. */
  slots: readonly Slot[] | undefined
  listener: Listener<FromThread> | undefined
  readonly #worker: Worker
  #end: string | undefined

  constructor(script: URL, maxHeapMib: number) {
    const resourceLimits = { maxOldGenerationSizeMb: maxHeapMib }
    this.#worker = new Worker(script, { name: 'slipway-executor', env: {}, resourceLimits })
    let reason = 'its thread ended'
    this.#worker.on('message', (message: FromThread) => this.listener?.hear(message))
    this.#worker.on('error', (error) => {
      reason = error instanceof Error ? error.message : String(error)
    })
    this.#worker.on('exit', (code) => {
      this.#end = `${reason} (exit code ${code})`
      this.listener?.gone(this.#end)
    })
  }

  /** Says something; what is handed over is the thread's from then on, and was not copied. */
  say(message: ToThread, handedOver?: readonly ArrayBuffer[]): void {
    if (this.#end !== undefined) this.listener?.gone(this.#end)
    else if (handedOver === undefined) this.#worker.postMessage(message)
    else this.#worker.postMessage(message, handedOver)
  }

  /** Whether the thread keeps the server from ending. */
  hold(isHeld: boolean): void {
    if (isHeld) this.#worker.ref()
    else this.#worker.unref()
  }

  async end(): Promise<void> {
    await this.#worker.terminate()
  }
}

/** Threads of one kind. */
export class Threads {
  readonly #script: URL
  readonly #maxHeapMib: number
  readonly #spares = new Set<Thread>()

  constructor(script: URL, maxHeapMib: number) {
    this.#script = script
    this.#maxHeapMib = maxHeapMib
  }

  /** A thread without a model. */
  take(): Thread {
    const [spare] = this.#spares
    if (spare === undefined) return new Thread(this.#script, this.#maxHeapMib)
    this.#spares.delete(spare)
    spare.hold(true)
    return spare
  }

  /** Takes back a thread that runs nothing: its model is let go. */
  async give(thread: Thread): Promise<void> {
    if (this.#spares.size >= MAX_SPARE_THREADS || !(await isClosed(thread))) return await thread.end()
    thread.hold(false)
    thread.listener = { hear: () => {}, gone: () => this.#spares.delete(thread) }
    this.#spares.add(thread)
  }
}

async function isClosed(thread: Thread): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const closed = await new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), CLOSE_LIMIT_MS)
    thread.listener = {
      hear: (message) => {
        if (typeof message === 'object' && message.kind === 'closed') resolve(true)
      },
      gone: () => resolve(false),
    }
    thread.say({ kind: 'close' })
  })
  clearTimeout(timer)
  return closed
}
