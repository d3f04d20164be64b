/** An executor in a worker thread; tensors cross in shared memory, with one message each way for a batch. */
import { Worker } from 'node:worker_threads'
import { copyBytes } from '../bytes.ts'
import type { Batch, BatchResult, Executor, ExecutorEvents, OutputView, StartExecutor } from './executor.ts'
import {
  align,
  type FromThread,
  INPUT_HEAD_WORDS,
  MAX_KEPT_BUFFER_BYTES,
  MAX_RUNNING,
  SLOTS,
  type ThreadData,
  type ToThread,
} from './layout.ts'

const FIRST_BUFFER_BYTES = 64 * 1024
const MAX_KNOWN_GROUPS = 1024
const START_LIMIT_MS = 120_000

/** Starts an executor in a thread that runs `script`, by default the ONNX Runtime one. */
export function createThreadExecutor(script: URL = new URL('./worker.ts', import.meta.url)): StartExecutor {
  return ({ model, intraOpThreads, events }) => {
    const data: ThreadData = { model, intraOpThreads }
    const worker = new Worker(script, { workerData: data, name: 'slipway-executor' })
    return new Promise((resolve, reject) => {
      let executor: ThreadExecutor | undefined
      const refuse = (message: string): void => {
        clearTimeout(timer)
        void worker.terminate()
        reject(new Error(message))
      }
      const timer = setTimeout(() => refuse(`the model did not load within ${START_LIMIT_MS} ms`), START_LIMIT_MS)
      worker.on('message', (message: FromThread) => {
        if (executor !== undefined) executor.hear(message)
        else if (typeof message === 'object' && message.kind === 'refused') refuse(message.message)
        else if (typeof message === 'object' && message.kind === 'ready') {
          clearTimeout(timer)
          executor = new ThreadExecutor(worker, events)
          resolve(executor)
        }
      })
      let reason = 'its thread ended'
      worker.on('error', (error) => {
        reason = error instanceof Error ? error.message : String(error)
      })
      worker.on('exit', (code) => {
        if (executor === undefined) refuse(`the thread ended while loading: ${reason}`)
        else executor.gone(`${reason} (exit code ${code})`)
      })
    })
  }
}

interface Slot {
  input: SharedArrayBuffer
  inputBytes: Buffer
  inputWords: Int32Array
  output: SharedArrayBuffer
  outputBytes: Buffer
  outputWords: Int32Array
  batch: Batch | undefined
  /** The answers of its last batch are being read. */
  isRead: boolean
}

class ThreadExecutor implements Executor {
  readonly slots = MAX_RUNNING
  readonly #worker: Worker
  readonly #events: ExecutorEvents
  readonly #slots: readonly Slot[]
  readonly #known = new Set<number>()
  #running = 0
  #closed = false

  constructor(worker: Worker, events: ExecutorEvents) {
    this.#worker = worker
    this.#events = events
    this.#slots = Array.from({ length: SLOTS }, (_, index) => {
      const slot = emptySlot()
      setInput(slot, FIRST_BUFFER_BYTES)
      this.#say({ kind: 'input-buffer', slot: index, buffer: slot.input })
      return slot
    })
  }

  get running(): number {
    return this.#running
  }

  run(batch: Batch): void {
    const index = this.#slots.findIndex((candidate) => candidate.batch === undefined && !candidate.isRead)
    const slot = this.#slots[index]
    if (slot === undefined || this.#closed || this.#running >= MAX_RUNNING)
      throw new Error('a batch was given to an executor without a free slot')
    this.#introduce(batch)
    this.#fill(index, slot, batch)
    slot.batch = batch
    this.#running++
    this.#say(index)
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#worker.terminate()
  }

  /** A message of the thread. */
  hear(message: FromThread): void {
    if (typeof message === 'number') {
      const slot = this.#slots[message]
      const batch = this.#take(slot)
      if (slot === undefined || batch === undefined) return
      slot.isRead = true
      this.#events.done(batch, readResult(slot, batch.group.outputs.length))
      slot.isRead = false
      this.#trim(message, slot)
    } else if (message.kind === 'output-buffer') {
      const slot = this.#slots[message.slot]
      if (slot) setOutput(slot, message.buffer)
    } else if (message.kind === 'failed') {
      const batch = this.#take(this.#slots[message.slot])
      if (batch) this.#events.failed(batch, message.message)
    }
  }

  /** The thread is no more. */
  gone(reason: string): void {
    if (this.#closed) return
    this.#closed = true
    const batches = this.#slots.flatMap((slot) => this.#take(slot) ?? [])
    this.#events.died(batches, reason)
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
      this.#say({ kind: 'forget-groups' })
    }
    this.#known.add(group.id)
    this.#say({ kind: 'group', group: { id: group.id, inputs: group.inputs, outputs: group.outputs } })
  }

  #fill(index: number, slot: Slot, batch: Batch): void {
    const { group, members, rows } = batch
    const count = group.inputs.length
    const needed = inputBytes(batch)
    if (needed > slot.input.byteLength) {
      setInput(slot, 2 ** Math.ceil(Math.log2(needed)))
      this.#say({ kind: 'input-buffer', slot: index, buffer: slot.input })
    }
    const words = slot.inputWords
    words[0] = group.id
    words[1] = rows
    let at = align((INPUT_HEAD_WORDS + count) * 4)
    for (let input = 0; input < count; input++) {
      const start = at
      for (const { bytes, offsets } of members) {
        at += copyBytes(bytes, offsets[2 * input] as number, offsets[2 * input + 1] as number, slot.inputBytes, at)
      }
      words[INPUT_HEAD_WORDS + input] = at - start
      at = align(at)
    }
  }

  /** Gives up buffers that a large batch has left; the thread has given up its own already. */
  #trim(index: number, slot: Slot): void {
    if (slot.output.byteLength > MAX_KEPT_BUFFER_BYTES) setOutput(slot, new SharedArrayBuffer(0))
    if (slot.input.byteLength <= MAX_KEPT_BUFFER_BYTES) return
    setInput(slot, FIRST_BUFFER_BYTES)
    this.#say({ kind: 'input-buffer', slot: index, buffer: slot.input })
  }

  #say(message: ToThread): void {
    this.#worker.postMessage(message)
  }
}

/** Room that a batch takes in an input buffer. */
function inputBytes({ group, members }: Batch): number {
  let bytes = align((INPUT_HEAD_WORDS + group.inputs.length) * 4) + 8 * group.inputs.length
  for (const { offsets } of members) {
    for (let index = 0; index < offsets.length; index += 2) {
      bytes += (offsets[index + 1] as number) - (offsets[index] as number)
    }
  }
  return bytes
}

function emptySlot(): Slot {
  const none = new SharedArrayBuffer(0)
  return {
    input: none,
    inputBytes: Buffer.from(none),
    inputWords: new Int32Array(none),
    output: none,
    outputBytes: Buffer.from(none),
    outputWords: new Int32Array(none),
    batch: undefined,
    isRead: false,
  }
}

function setInput(slot: Slot, bytes: number): void {
  slot.input = new SharedArrayBuffer(bytes)
  slot.inputBytes = Buffer.from(slot.input)
  slot.inputWords = new Int32Array(slot.input)
}

function setOutput(slot: Slot, buffer: SharedArrayBuffer): void {
  slot.output = buffer
  slot.outputBytes = Buffer.from(buffer)
  slot.outputWords = new Int32Array(buffer)
}

function readResult(slot: Slot, count: number): BatchResult {
  const words = slot.outputWords
  let word = 0
  const computeMicros = words[word++] as number
  const found: { length: number; dims: number[] }[] = []
  for (let index = 0; index < count; index++) {
    const length = words[word++] as number
    const rank = words[word++] as number
    const dims: number[] = []
    for (let axis = 0; axis < rank; axis++) dims.push(words[word++] as number)
    found.push({ length, dims })
  }
  let at = align(word * 4)
  const outputs: OutputView[] = found.map(({ length, dims }) => {
    const bytes = slot.outputBytes.subarray(at, at + length)
    at += align(length)
    return { dims, bytes }
  })
  return { outputs, computeMicros }
}
