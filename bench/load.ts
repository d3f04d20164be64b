/** Puts load on a gRPC server and measures what comes back: closed loop, so many callers that each wait for their answer. */
import { connect, type Socket } from 'node:net'
import {
  dataFrames,
  frame,
  frameFlag,
  frameReader,
  frameType,
  grpcFrame,
  opening,
  requestHeaders,
} from './http2-frames.ts'

/** What to do. */
export interface LoadPlan {
  /** `host:port`. */
  readonly address: string
  /** `/package.Service/Method`. */
  readonly path: string
  /**
   * `unary`: each call a stream of its own. `stream`: calls are messages on one stream a connection, those of one turn of the event loop
   * in one frame, as Slipway's own clients and its router send them. `framed-stream`: the same with a frame for each message.
   */
  readonly kind: 'unary' | 'stream' | 'framed-stream'
  /** Calls that are under way at once, spread over the connections. */
  readonly callers: number
  readonly connections: number
  readonly warmUpMs: number
  readonly measureMs: number
  /** The request's bytes in base64, so that a plan can be sent to another process. */
  readonly request: string
}

/** What came back within the measured time. */
export interface LoadResult {
  readonly calls: number
  /** Answers without a message: the status was an error. */
  readonly failed: number
  readonly seconds: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly meanMs: number
}

interface Tally {
  isMeasuring: boolean
  isStopped: boolean
  failed: number
  readonly latenciesMs: number[]
}

/** Runs a plan. `onMeasure` is awaited between warm-up and measurement, and again after it. */
export async function runLoad(plan: LoadPlan, onMeasure: () => Promise<void>): Promise<LoadResult> {
  const tally: Tally = { isMeasuring: false, isStopped: false, failed: 0, latenciesMs: [] }
  const open = plan.kind === 'unary' ? openUnary : openStream
  const sockets = await Promise.all(
    Array.from({ length: plan.connections }, (_, index) => {
      const callers = Math.floor((plan.callers + index) / plan.connections)
      return callers === 0 ? Promise.resolve(undefined) : open(plan, callers, tally)
    }),
  )
  await sleep(plan.warmUpMs)
  await onMeasure()
  tally.isMeasuring = true
  const begunMs = performance.now()
  await sleep(plan.measureMs)
  tally.isMeasuring = false
  const seconds = (performance.now() - begunMs) / 1000
  await onMeasure()
  tally.isStopped = true
  for (const socket of sockets) socket?.destroy()
  const sorted = Float64Array.from(tally.latenciesMs).sort()
  const quantile = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
  return {
    calls: sorted.length,
    failed: tally.failed,
    seconds,
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
    meanMs: sorted.reduce((sum, value) => sum + value, 0) / Math.max(1, sorted.length),
  }
}

/** A connection that has said its opening. */
export async function openSocket(address: string): Promise<Socket> {
  const [host = '', port = ''] = address.split(':')
  const socket = connect({ host, port: Number(port), noDelay: true })
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', reject)
  })
  socket.write(opening())
  return socket
}

/** Writes once a turn of the event loop what was added in it. */
function coalescing(socket: Socket): (bytes: Buffer) => void {
  let waiting: Buffer[] = []
  return (bytes) => {
    if (waiting.length === 0) {
      setImmediate(() => {
        socket.write(waiting.length === 1 && waiting[0] ? waiting[0] : Buffer.concat(waiting))
        waiting = []
      })
    }
    waiting.push(bytes)
  }
}

/** What a client answers to frames that belong to no call. Throws when the server goes away. */
export function answerConnectionFrame(socket: Socket, type: number, flags: number, payload: Buffer): void {
  if (type === frameType.settings && (flags & frameFlag.ack) === 0) {
    socket.write(frame(frameType.settings, frameFlag.ack, 0, Buffer.alloc(0)))
  } else if (type === frameType.ping && (flags & frameFlag.ack) === 0) {
    socket.write(frame(frameType.ping, frameFlag.ack, 0, payload))
  } else if (type === frameType.goAway) {
    throw new Error(`the server closed the connection: code ${payload.readUInt32BE(4)} ${payload.subarray(8)}`)
  }
}

async function openUnary(plan: LoadPlan, callers: number, tally: Tally): Promise<Socket> {
  const socket = await openSocket(plan.address)
  const write = coalescing(socket)
  const headers = frame(frameType.headers, frameFlag.endHeaders, 0, requestHeaders(plan.path, plan.address))
  const body = frame(frameType.data, frameFlag.endStream, 0, grpcFrame(Buffer.from(plan.request, 'base64')))
  const call = Buffer.concat([headers, body])
  const begunMs = new Map<number, number>()
  const answered = new Set<number>()
  let next = 1
  const ask = (): void => {
    if (tally.isStopped) return
    const bytes = Buffer.from(call)
    bytes.writeUInt32BE(next, 5)
    bytes.writeUInt32BE(next, headers.length + 5)
    begunMs.set(next, performance.now())
    next += 2
    write(bytes)
  }
  const read = frameReader((type, flags, id, bytes, start, end) => {
    if (id === 0) return answerConnectionFrame(socket, type, flags, bytes.subarray(start, end))
    if (type === frameType.data && end > start) answered.add(id)
    const isReset = type === frameType.reset
    const isEnd = (type === frameType.headers || type === frameType.data) && (flags & frameFlag.endStream) !== 0
    const begun = begunMs.get(id)
    if ((!isReset && !isEnd) || begun === undefined) return
    begunMs.delete(id)
    settle(tally, begun, performance.now(), answered.delete(id) && !isReset)
    ask()
  })
  socket.on('data', read)
  for (let caller = 0; caller < callers; caller++) ask()
  return socket
}

async function openStream(plan: LoadPlan, callers: number, tally: Tally): Promise<Socket> {
  const socket = await openSocket(plan.address)
  const message = grpcFrame(Buffer.from(plan.request, 'base64'))
  const isJoined = plan.kind === 'stream'
  const one = isJoined ? message : frame(frameType.data, 0, 1, message)
  const many = Buffer.concat(Array.from({ length: callers }, () => one))
  const begun = new Turns()
  let due = 0
  const ask = (): void => {
    if (tally.isStopped) return
    if (due++ > 0) return
    setImmediate(() => {
      const bytes = many.subarray(0, due * one.length)
      begun.add(performance.now(), due)
      due = 0
      socket.write(isJoined ? dataFrames(1, bytes) : bytes)
    })
  }
  let rest: Buffer = Buffer.alloc(0)
  const read = frameReader((type, flags, id, bytes, start, end) => {
    if (id === 0) return answerConnectionFrame(socket, type, flags, bytes.subarray(start, end))
    if (type === frameType.reset || (type === frameType.headers && (flags & frameFlag.endStream) !== 0)) {
      throw new Error('the server ended the stream')
    }
    if (type !== frameType.data) return
    const nowMs = performance.now()
    const waiting = rest.length === 0 ? bytes.subarray(start, end) : Buffer.concat([rest, bytes.subarray(start, end)])
    let at = 0
    while (waiting.length - at >= 5) {
      const next = at + 5 + waiting.readUInt32BE(at + 1)
      if (next > waiting.length) break
      // The first field of a failed answer is its text; of another it is the prediction.
      settle(tally, begun.take(), nowMs, waiting[at + 5] !== 0x0a)
      ask()
      at = next
    }
    rest = waiting.subarray(at)
  })
  socket.on('data', read)
  socket.write(frame(frameType.headers, frameFlag.endHeaders, 1, requestHeaders(plan.path, plan.address)))
  for (let caller = 0; caller < callers; caller++) ask()
  return socket
}

/** When calls began that are answered in order; those of one turn of the event loop began together. */
class Turns {
  readonly #turns: { readonly ms: number; left: number }[] = []

  add(ms: number, calls: number): void {
    this.#turns.push({ ms, left: calls })
  }

  take(): number {
    const [turn] = this.#turns
    if (turn === undefined) throw new Error('the server answered what it was not asked')
    if (--turn.left === 0) this.#turns.shift()
    return turn.ms
  }
}

function settle(tally: Tally, begunMs: number, endedMs: number, isAnswered: boolean): void {
  if (!tally.isMeasuring) return
  if (!isAnswered) tally.failed++
  tally.latenciesMs.push(endedMs - begunMs)
}

async function sleep(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms))
}
