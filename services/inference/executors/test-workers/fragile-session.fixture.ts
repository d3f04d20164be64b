/** A model for tests that echoes its first input, and misbehaves in the way that a byte in it asks for. */
import { setTimeout as sleep } from 'node:timers/promises'
import { threadId } from 'node:worker_threads'
import type { InputTensor } from '../layout.ts'
import type { OpenSession, RunResult } from '../session.ts'

/** Bytes that ask for something. */
export const misdeed = {
  throw: 66,
  exit: 67,
  abort: 68,
  segfault: 69,
  exhaustHeap: 70,
  refuse: 71,
  leak: 72,
  slow: 73,
  tellProcess: 74,
  tellThread: 75,
  never: 76,
} as const

const LEAK_BYTES = 64 * 1024 * 1024
const SLOW_MS = 200
const kept: unknown[] = []

/** Opens it; the models `refuse`, `die` and `sleep` do not open. */
export const openFragileSession: OpenSession = async (model) => {
  const name = Buffer.from(model).toString()
  if (name === 'refuse') throw new Error('the model is refused')
  if (name === 'die') process.exit(7)
  if (name === 'sleep') await sleep(1_000_000)
  if (name === 'environment') throw new Error(`environment: ${Object.keys(process.env).join(' ')}`)
  return { run: ([input]) => run(input), close: async () => {} }
}

async function run(input: InputTensor | undefined): Promise<RunResult> {
  const bytes = input === undefined ? Buffer.alloc(0) : Buffer.from(input.buffer, input.offset, input.length)
  if (bytes.includes(misdeed.refuse)) throw new Error('the inputs are refused')
  if (bytes.includes(misdeed.exit)) process.exit(3)
  if (bytes.includes(misdeed.abort)) process.abort()
  if (bytes.includes(misdeed.segfault)) process.kill(process.pid, 'SIGSEGV')
  if (bytes.includes(misdeed.leak)) kept.push(Buffer.alloc(LEAK_BYTES, 1))
  while (bytes.includes(misdeed.exhaustHeap)) kept.push(Array.from({ length: 1000 }, (_, index) => ({ index })))
  if (bytes.includes(misdeed.throw)) {
    setImmediate(() => {
      throw new Error('a deadly byte')
    })
    return await new Promise(() => {})
  }
  const waitMs = bytes.includes(misdeed.never) ? Number.POSITIVE_INFINITY : SLOW_MS
  if (bytes.includes(misdeed.slow) || bytes.includes(misdeed.never)) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, waitMs)
  }
  if (bytes.includes(misdeed.tellProcess)) bytes.writeUInt32LE(process.pid)
  if (bytes.includes(misdeed.tellThread)) bytes.writeUInt8(threadId % 256)
  return {
    inputMicros: 1,
    computeMicros: 1,
    endedMs: performance.now(),
    tensors: [{ dims: input?.shape ?? [], bytes }],
  }
}
