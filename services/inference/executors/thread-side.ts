/** The side of a thread executor that is in the thread: takes batches from shared memory, leaves answers there. */
import { parentPort } from 'node:worker_threads'
import {
  answerSize,
  batchState,
  type GroupDescription,
  MAX_KEPT_BUFFER_BYTES,
  type Memory,
  memoryOver,
  STATE_WORD,
  writeAnswer,
} from './layout.ts'
import { type ModelSession, type OpenSession, runBatch, textOf } from './session.ts'
import type { FromThread, ModelToOpen, ToThread } from './thread-messages.ts'

const FIRST_OUTPUT_BYTES = 4096

/** Serves the event loop until it ends the thread. */
export function serveThread(openSession: OpenSession): void {
  const port = parentPort
  if (port === null) throw new Error('an executor runs in a worker thread')
  const say = (message: FromThread): void => port.postMessage(message)
  const groups = new Map<number, GroupDescription>()
  const inputs: Memory[] = []
  const outputs: Memory[] = []
  let session: ModelSession | undefined

  const open = async ({ model, intraOpThreads }: ModelToOpen): Promise<void> => {
    try {
      const before = process.memoryUsage.rss()
      session = await openSession(typeof model === 'string' ? model : new Uint8Array(model), intraOpThreads)
      say({ kind: 'ready', grownBytes: Math.max(0, process.memoryUsage.rss() - before) })
    } catch (error) {
      say({ kind: 'refused', message: textOf(error) })
    }
  }

  // One at a time: whether a batch may begin is decided when the one before it has ended.
  const waiting: number[] = []
  let isBusy = false
  const drain = async (): Promise<void> => {
    if (isBusy) return
    isBusy = true
    for (let slot = waiting.shift(); slot !== undefined; slot = waiting.shift()) await run(slot)
    isBusy = false
  }

  const run = async (slot: number): Promise<void> => {
    try {
      const memory = inputs[slot]
      if (memory === undefined || session === undefined) throw new Error('a batch without a place')
      const mayBegin = () =>
        Atomics.compareExchange(memory.words, STATE_WORD, batchState.waiting, batchState.running) === batchState.waiting
      const answer = await runBatch(session, groups, memory, mayBegin)
      if (answer === 'skipped') return say({ kind: 'skipped', slot })
      const total = answerSize(answer)
      let output = outputs[slot]
      const isNew = output === undefined || output.bytes.length < total
      if (output === undefined || isNew) {
        output = memoryOver(new SharedArrayBuffer(Math.max(FIRST_OUTPUT_BYTES, 2 ** Math.ceil(Math.log2(total)))))
        if (output.bytes.length <= MAX_KEPT_BUFFER_BYTES) outputs[slot] = output
        else delete outputs[slot]
      }
      writeAnswer(answer, output)
      if (isNew) say({ kind: 'output-buffer', slot, buffer: output.buffer as SharedArrayBuffer })
      say(slot)
    } catch (error) {
      say({ kind: 'failed', slot, message: textOf(error) })
    }
  }

  const close = async (): Promise<void> => {
    const closing = session
    session = undefined
    groups.clear()
    await closing?.close()
    say({ kind: 'closed' })
  }

  port.on('message', (message: ToThread) => {
    if (typeof message === 'number') {
      waiting.push(message)
      void drain()
    } else if (message.kind === 'input-buffer') inputs[message.slot] = memoryOver(message.buffer)
    else if (message.kind === 'group') groups.set(message.group.id, message.group)
    else if (message.kind === 'forget-groups') groups.clear()
    else if (message.kind === 'close') void close()
    else void open(message)
  })
}
