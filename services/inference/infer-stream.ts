import { Failure, type RawStream } from '@slipway/rpc'
import { encodeStreamFailure, type PlannedRequest, type PredictionStream, StreamPrediction } from './prediction.ts'
import { scanRequest } from './wire.ts'

const MAX_ECHOED_ID_BYTES = 1024

/** From a request's bytes to its plan; a promise while the version that it asks for is loaded. Throws what is wrong with it. */
export type PlanRequest = (request: Buffer) => PlannedRequest | Promise<PlannedRequest>

/** Serves one stream: a fault of one request is that request's answer, and the stream goes on. */
export function serveStream(stream: RawStream, plan: PlanRequest): void {
  const endsOnError = stream.header('triton_grpc_error') === 'true'
  let pending = 0
  let hasEnded = false
  let isClosed = false
  let isPaused = false
  const settle = (): void => {
    pending--
    if (pending === 0 && hasEnded && !isClosed) stream.end()
  }
  const write = (message: Uint8Array): void => {
    if (!isClosed) stream.write(message)
    if (stream.writableNeedsDrain && !isPaused && !isClosed) {
      isPaused = true
      stream.pause()
    }
    settle()
  }
  const closing = new Set<() => void>()
  const close = (): void => {
    isClosed = true
    for (const tell of closing) tell()
    closing.clear()
  }
  const predictions: PredictionStream = {
    get isClosed() {
      return isClosed
    },
    closing,
    send: write,
    fail(id, failure) {
      if (!endsOnError || isClosed) return write(encodeStreamFailure(id, failure))
      stream.fail(failure)
      close()
    },
  }
  const offer = (planned: PlannedRequest): void => planned.version.offer(new StreamPrediction(planned, predictions))
  const refuse = (request: Buffer, error: unknown): void => predictions.fail(idOf(request), Failure.from(error))
  stream.onMessage((request) => {
    pending++
    try {
      const planned = plan(request)
      if (planned instanceof Promise) planned.then(offer).catch((error: unknown) => refuse(request, error))
      else offer(planned)
    } catch (error) {
      refuse(request, error)
    }
  })
  stream.onDrain(() => {
    isPaused = false
    stream.resume()
  })
  stream.onEnd(() => {
    hasEnded = true
    if (pending === 0 && !isClosed) stream.end()
  })
  stream.onCancel(close)
}

/** The id of a request that could not be planned. */
function idOf(request: Buffer): string {
  try {
    const { idStart, idEnd } = scanRequest(request)
    return request.toString('utf8', idStart, Math.min(idEnd, idStart + MAX_ECHOED_ID_BYTES))
  } catch {
    return ''
  }
}
