/** An executor in a worker thread; tensors cross in shared memory, with one message each way for a batch. */
import { setImmediate as turn } from 'node:timers/promises'
import {
  type Batch,
  type Executor,
  type ExecutorEvents,
  MAX_HEAP_MIB,
  MAX_KNOWN_GROUPS,
  type StartExecutor,
} from './executor.ts'
import {
  batchState,
  inputSize,
  MAX_KEPT_BUFFER_BYTES,
  type Memory,
  memoryOver,
  readAnswer,
  STATE_WORD,
  writeInput,
} from './layout.ts'
import { awaitStart, type Listener, Overlaps } from './starting.ts'
import { type FromThread, MAX_RUNNING, type ModelToOpen, SLOTS } from './thread-messages.ts'
import { type Slot, type Thread, Threads } from './threads.ts'

const FIRST_BUFFER_BYTES = 64 * 1024
/** What a thread holds before it has a model: its JavaScript engine and the runtime's binding, measured. */
const THREAD_BYTES = 10 * 1024 * 1024
/** A model is copied in pieces, so that a large one does not hold up the event loop. */
const PIECE_BYTES = 4 * 1024 * 1024

/** How threads are run. */
export interface ThreadOptions {
  readonly maxHeapMib?: number
}

/** Starts an executor in a thread that runs `script`, by default the ONNX Runtime one. */
export function createThreadExecutor(
  script: URL = new URL('./worker.ts', import.meta.url),
  { maxHeapMib = MAX_HEAP_MIB }: ThreadOptions = {},
): StartExecutor {
  const openings = new Overlaps()
  const threads = new Threads(script, maxHeapMib)
  return async ({ model, intraOpThreads, events, signal }) => {
    const thread = threads.take()
    const ended = openings.begin()
    try {
      const message: ModelToOpen = { kind: 'open', model: await copyOf(model), intraOpThreads }
      const grownBytes = await awaitStart<number>((resolve, reject) => {
        thread.listener = {
          hear: (answer) => {
            if (typeof answer !== 'object') return
            if (answer.kind === 'ready') resolve(answer.grownBytes)
            if (answer.kind === 'refused') reject(new Error(answer.message))
          },
          gone: (reason) => reject(new Error(`the thread ended while loading: ${reason}`)),
        }
        thread.say(message, typeof message.model === 'string' ? [] : [message.model])
      }, signal)
      // What the process grew while several models were opened at once is shared among them.
      const modelBytes = Math.max(typeof model === 'string' ? 0 : model.length, grownBytes / ended())
      return new ThreadExecutor({ thread, threads, events, ownBytes: THREAD_BYTES + modelBytes })
    } catch (error) {
      ended()
      await thread.end()
      throw error
    }
  }
}

/** A copy that can be handed over: who gave the model keeps it. */
async function copyOf(model: Uint8Array | string): Promise<ArrayBuffer | string> {
  if (typeof model === 'string') return model
  const copy = new Uint8Array(model.length)
  for (let at = 0; at < model.length; at += PIECE_BYTES) {
    if (at > 0) await turn()
    copy.set(model.subarray(at, at + PIECE_BYTES), at)
  }
  return copy.buffer
}

interface ThreadExecutorOptions {
  readonly thread: Thread
  readonly threads: Threads
  readonly events: ExecutorEvents
  /** Memory beside its buffers. */
  readonly ownBytes: number
}

class ThreadExecutor implements Executor, Listener<FromThread> {
  readonly slots = MAX_RUNNING
  readonly #thread: Thread
  readonly #threads: Threads
  readonly #events: ExecutorEvents
  readonly #ownBytes: number
  readonly #slots: readonly Slot[]
  readonly #known = new Set<number>()
  #running = 0
  #closing: Promise<void> | undefined
  #isGone = false

  constructor({ thread, threads, events, ownBytes }: ThreadExecutorOptions) {
    this.#thread = thread
    this.#threads = threads
    this.#events = events
    this.#ownBytes = ownBytes
    thread.listener = this
    thread.slots ??= Array.from({ length: SLOTS }, (_, index) => {
      const slot = { input: shared(FIRST_BUFFER_BYTES), output: shared(0), batch: undefined, isRead: false }
      thread.say({ kind: 'input-buffer', slot: index, buffer: slot.input.buffer })
      return slot
    })
    this.#slots = thread.slots
  }

  get running(): number {
    return this.#running
  }

  get memoryBytes(): number {
    const bytesOf = ({ input, output }: Slot) => input.bytes.length + output.bytes.length
    return this.#slots.reduce((sum, slot) => sum + bytesOf(slot), this.#ownBytes)
  }

  run(batch: Batch): void {
    const index = this.#slots.findIndex((candidate) => candidate.batch === undefined && !candidate.isRead)
    const slot = this.#slots[index]
    if (slot === undefined || this.#isOver || this.#running >= MAX_RUNNING)
      throw new Error('a batch was given to an executor without a free slot')
    this.#introduce(batch)
    const size = inputSize(batch)
    if (size > slot.input.bytes.length) this.#setInput(index, slot, 2 ** Math.ceil(Math.log2(size)))
    writeInput(batch, slot.input)
    slot.batch = batch
    this.#running++
    this.#thread.say(index)
  }

  withdraw(batch: Batch): void {
    const words = this.#slots.find((slot) => slot.batch === batch)?.input.words
    if (words) Atomics.compareExchange(words, STATE_WORD, batchState.waiting, batchState.withdrawn)
  }

  close(): Promise<void> {
    this.#closing ??= this.#running > 0 || this.#isGone ? this.#thread.end() : this.#threads.give(this.#thread)
    return this.#closing
  }

  hear(message: FromThread): void {
    if (typeof message === 'number') this.#answered(message)
    else if (message.kind === 'output-buffer') {
      const slot = this.#slots[message.slot]
      if (slot) slot.output = memoryOver(message.buffer)
    } else if (message.kind === 'failed' || message.kind === 'skipped') {
      const batch = this.#take(this.#slots[message.slot])
      if (batch === undefined) return
      if (message.kind === 'failed') this.#events.failed(batch, message.message)
      else this.#events.skipped?.(batch)
    }
  }

  gone(reason: string): void {
    if (this.#isOver) return
    this.#isGone = true
    const batches = this.#slots.flatMap((slot) => this.#take(slot) ?? [])
    this.#events.died(batches, reason)
  }

  get #isOver(): boolean {
    return this.#isGone || this.#closing !== undefined
  }

  #answered(index: number): void {
    const slot = this.#slots[index]
    const batch = this.#take(slot)
    if (slot === undefined || batch === undefined) return
    slot.isRead = true
    this.#events.done(batch, readAnswer(slot.output, batch.group.outputs.length))
    slot.isRead = false
    // Gives up what a large batch has left; the thread has given up its own already.
    if (slot.output.bytes.length > MAX_KEPT_BUFFER_BYTES) slot.output = shared(0)
    if (slot.input.bytes.length > MAX_KEPT_BUFFER_BYTES) this.#setInput(index, slot, FIRST_BUFFER_BYTES)
  }

  #take(slot: Slot | undefined): Batch | undefined {
    const batch = slot?.batch
    if (slot === undefined || batch === undefined) return undefined
    slot.batch = undefined
    this.#running--
    return batch
  }

  #introduce({ group }: Batch): void {
    if (this.#known.has(group.id)) return
    if (this.#known.size >= MAX_KNOWN_GROUPS) {
      this.#known.clear()
      this.#thread.say({ kind: 'forget-groups' })
    }
    this.#known.add(group.id)
    this.#thread.say({ kind: 'group', group: { id: group.id, inputs: group.inputs, outputs: group.outputs } })
  }

  #setInput(index: number, slot: Slot, bytes: number): void {
    slot.input = shared(bytes)
    this.#thread.say({ kind: 'input-buffer', slot: index, buffer: slot.input.buffer })
  }
}

function shared(bytes: number): Memory<SharedArrayBuffer> {
  return memoryOver(new SharedArrayBuffer(bytes))
}
