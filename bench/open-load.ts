/**
 * Puts load on a gRPC server at a rate of its own, whatever comes back: open loop, calls at random times (a Poisson process),
 * each with a deadline. A caller that gets no answer by then resets its call, as clients do.
 */
import { frame, frameFlag, frameReader, frameType, grpcFrame, requestHeaders } from './http2-frames.ts'
import { answerConnectionFrame, openSocket } from './load.ts'

/** What to do. */
export interface OpenLoadPlan {
  readonly kind: 'open'
  /** `host:port`. */
  readonly address: string
  /** `/package.Service/Method`. */
  readonly path: string
  /** The request's bytes in base64. */
  readonly request: string
  readonly connections: number
  readonly callsPerSecond: number
  readonly deadlineMs: number
  readonly warmUpMs: number
  readonly measureMs: number
  readonly seed: number
}

/** What came of the calls that were due within the measured time. */
export interface OpenLoadResult {
  readonly calls: number
  /** Answered within the deadline, by the time at which they were due. */
  readonly good: number
  /** Refused by the server before their deadline. */
  readonly refused: number
  /** Answered, refused or given up after it. */
  readonly late: number
  readonly seconds: number
  readonly p50Ms: number
  readonly p99Ms: number
}

interface Call {
  readonly dueMs: number
  readonly isMeasured: boolean
}

interface Tally {
  calls: number
  good: number
  refused: number
  late: number
  readonly latenciesMs: number[]
}

const TICK_MS = 1
const RESET_CANCEL = Buffer.from([0, 0, 0, 8])

/** Runs a plan. `onMeasure` is awaited before the first call and after the last one. */
export async function runOpenLoad(plan: OpenLoadPlan, onMeasure: () => Promise<void>): Promise<OpenLoadResult> {
  const tally: Tally = { calls: 0, good: 0, refused: 0, late: 0, latenciesMs: [] }
  const callers = await Promise.all(Array.from({ length: plan.connections }, () => openCaller(plan, tally)))
  await onMeasure()
  const random = generator(plan.seed)
  const begunMs = performance.now()
  const measureFromMs = begunMs + plan.warmUpMs
  const endMs = measureFromMs + plan.measureMs
  let dueMs = begunMs
  let next = 0
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const nowMs = performance.now()
      for (; dueMs <= nowMs && dueMs < endMs; dueMs -= Math.log(1 - random()) * (1000 / plan.callsPerSecond)) {
        callers[next++ % callers.length]?.call({ dueMs, isMeasured: dueMs >= measureFromMs })
      }
      for (const caller of callers) caller.tick(nowMs)
      if (nowMs < endMs + plan.deadlineMs + 5 * TICK_MS) return
      clearInterval(timer)
      resolve()
    }, TICK_MS)
  })
  for (const caller of callers) caller.close()
  await onMeasure()
  const sorted = Float64Array.from(tally.latenciesMs).sort()
  const { calls, good, refused, late } = tally
  const quantile = (share: number): number => sorted[Math.floor((sorted.length - 1) * share)] ?? Number.NaN
  return { calls, good, refused, late, seconds: plan.measureMs / 1000, p50Ms: quantile(0.5), p99Ms: quantile(0.99) }
}

interface Caller {
  call(call: Call): void
  /** Gives up what is too late, and sends what was added. */
  tick(nowMs: number): void
  close(): void
}

async function openCaller(plan: OpenLoadPlan, tally: Tally): Promise<Caller> {
  const socket = await openSocket(plan.address)
  const timeout = `${Math.round(plan.deadlineMs)}m`
  const block = requestHeaders(plan.path, plan.address, { 'grpc-timeout': timeout })
  const headers = frame(frameType.headers, frameFlag.endHeaders, 0, block)
  const body = frame(frameType.data, frameFlag.endStream, 0, grpcFrame(Buffer.from(plan.request, 'base64')))
  const template = Buffer.concat([headers, body])
  const calls = new Map<number, Call>()
  const answered = new Set<number>()
  let waiting: Buffer[] = []
  let nextId = 1
  const end = (id: number, isAnswered: boolean): void => {
    const call = calls.get(id)
    if (call === undefined) return
    calls.delete(id)
    if (!call.isMeasured) return
    tally.calls++
    const tookMs = performance.now() - call.dueMs
    if (tookMs > plan.deadlineMs) tally.late++
    else if (!isAnswered) tally.refused++
    else {
      tally.good++
      tally.latenciesMs.push(tookMs)
    }
  }
  const read = frameReader((type, flags, id, bytes, start, stop) => {
    if (id === 0) return answerConnectionFrame(socket, type, flags, bytes.subarray(start, stop))
    if (type === frameType.data && stop > start) answered.add(id)
    const isReset = type === frameType.reset
    const isEnd = (type === frameType.headers || type === frameType.data) && (flags & frameFlag.endStream) !== 0
    if (isReset || isEnd) end(id, answered.delete(id) && !isReset)
  })
  socket.on('data', read)
  return {
    call(call) {
      const bytes = Buffer.from(template)
      bytes.writeUInt32BE(nextId, 5)
      bytes.writeUInt32BE(nextId, headers.length + 5)
      calls.set(nextId, call)
      nextId += 2
      waiting.push(bytes)
    },
    tick(nowMs) {
      // In the order in which they were due, so the first that is not too late ends it.
      for (const [id, { dueMs }] of calls) {
        if (nowMs - dueMs <= plan.deadlineMs) break
        waiting.push(frame(frameType.reset, 0, id, RESET_CANCEL))
        answered.delete(id)
        end(id, false)
      }
      if (waiting.length > 0) socket.write(Buffer.concat(waiting))
      waiting = []
    },
    close: () => void socket.destroy(),
  }
}

/** Numbers in [0, 1) (mulberry32). */
function generator(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
