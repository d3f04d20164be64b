/**
 * The side of a process executor that is in the process. It has one thing to do at a time, so it reads and writes its
 * channel synchronously, tensors straight into the memory that the runtime takes. When the server is gone, however it ended, the
 * channel ends, and the process with it; a batch that runs then is not waited for (`parent-watch.ts`).
 */
import { readSync, writeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { answerSize, type GroupDescription, MAX_KEPT_BUFFER_BYTES, memoryOver, writeAnswer } from './layout.ts'
import {
  CHANNEL,
  decodeHead,
  encodeHead,
  type Frame,
  type FrameKind,
  FrameMemory,
  frameKind,
  HEAD_BYTES,
} from './process-frames.ts'
import { type ModelSession, type OpenSession, runBatch, textOf } from './session.ts'

/** Memory is looked at no more often than this. */
const MEMORY_INTERVAL_MS = 50

class ChannelEnded extends Error {}

/** Serves until the channel ends. */
export async function serveProcess(openSession: OpenSession, intraOpThreads: number): Promise<void> {
  endWithParent()
  const groups = new Map<number, GroupDescription>()
  const received = new FrameMemory(MAX_KEPT_BUFFER_BYTES)
  const answers = new FrameMemory(MAX_KEPT_BUFFER_BYTES)
  let session: ModelSession | undefined

  const open = async (model: Uint8Array | string): Promise<void> => {
    try {
      session = await openSession(model, intraOpThreads)
      say(frameKind.ready)
    } catch (error) {
      say(frameKind.refused, Buffer.from(textOf(error)))
    }
  }

  const run = async ({ payload }: Frame): Promise<void> => {
    try {
      if (session === undefined) throw new Error('a batch without a model')
      const answer = await runBatch(session, groups, payload)
      if (answer === 'skipped') return say(frameKind.skipped)
      const size = answerSize(answer)
      const memory = answers.atLeast(size)
      writeAnswer(answer, memory)
      say(frameKind.answer, memory.bytes.subarray(0, size))
    } catch (error) {
      say(frameKind.failed, Buffer.from(textOf(error)))
    }
  }

  const take = async (frame: Frame): Promise<void> => {
    const bytes = frame.payload.bytes.subarray(0, frame.length)
    if (frame.kind === frameKind.batch) await run(frame)
    else if (frame.kind === frameKind.group) {
      const group = JSON.parse(bytes.toString()) as GroupDescription
      groups.set(group.id, group)
    } else if (frame.kind === frameKind.forgetGroups) groups.clear()
    else await open(frame.kind === frameKind.modelPath ? bytes.toString() : bytes)
  }

  try {
    for (;;) await take(readFrame(received))
  } catch (error) {
    if (!(error instanceof ChannelEnded)) throw error
  }
}

function endWithParent(): void {
  const resourceLimits = { maxOldGenerationSizeMb: 8, maxYoungGenerationSizeMb: 1, stackSizeMb: 1 }
  const options = { name: 'slipway-parent-watch', env: {}, workerData: process.ppid, resourceLimits }
  new Worker(new URL('./parent-watch.ts', import.meta.url), options).unref()
}

function readFrame(memory: FrameMemory): Frame {
  const head = Buffer.alloc(HEAD_BYTES)
  readFully(head)
  const read = decodeHead(head)
  // A model's bytes are not kept for the batches after it.
  const isModel = read.kind === frameKind.modelBytes
  const payload = isModel ? memoryOver(new ArrayBuffer((read.length + 7) & ~7)) : memory.atLeast(read.length)
  readFully(payload.bytes.subarray(0, read.length))
  return { ...read, payload }
}

function readFully(target: Buffer): void {
  for (let at = 0; at < target.length; ) {
    const count = orEnded(() => readSync(CHANNEL, target, at, target.length - at, null))
    if (count === 0) throw new ChannelEnded()
    at += count
  }
}

let memoryKib = 0
let measuredMs = Number.NEGATIVE_INFINITY

function say(kind: FrameKind, payload: Buffer = Buffer.alloc(0)): void {
  const nowMs = performance.now()
  if (nowMs - measuredMs > MEMORY_INTERVAL_MS) {
    memoryKib = Math.round(process.memoryUsage.rss() / 1024)
    measuredMs = nowMs
  }
  writeFully(encodeHead(kind, payload.length, memoryKib))
  writeFully(payload)
}

function writeFully(source: Buffer): void {
  for (let at = 0; at < source.length; ) at += orEnded(() => writeSync(CHANNEL, source, at, source.length - at))
}

/** A channel that fails is one whose other end is gone. */
function orEnded(attempt: () => number): number {
  try {
    return attempt()
  } catch {
    throw new ChannelEnded()
  }
}
