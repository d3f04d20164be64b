/** Sends one request after another over one HTTP/2 stream or as unary calls, and says with which code each was answered. */
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2'
import { fromBinary } from '@bufbuild/protobuf'
import {
  type ModelInferResponse,
  ModelInferResponseSchema,
  ModelStreamInferResponseSchema,
} from '@slipway/proto/inference/grpc_service'

const PATH = '/inference.GRPCInferenceService'
const HEAD_BYTES = 5

/** How a request was answered; no code when it was not, or not as the protocol says. */
export interface FuzzAnswer {
  readonly code: number | undefined
  readonly response?: ModelInferResponse | undefined
}

/** One caller, who waits for each answer before it sends the next request. */
export interface FuzzCaller {
  ask(request: Buffer): Promise<FuzzAnswer>
}

/** Opens a connection; `onLost` hears when the server ends it. */
export function openSession(address: string, onLost: () => void): ClientHttp2Session {
  const session = connect(`http://${address}`)
  session.on('error', onLost)
  session.on('goaway', onLost)
  return session
}

function open(session: ClientHttp2Session, method: string): ClientHttp2Stream {
  const stream = session.request({
    ':method': 'POST',
    ':path': `${PATH}/${method}`,
    'content-type': 'application/grpc',
    te: 'trailers',
  })
  stream.on('error', () => {}) // `close` follows
  return stream
}

function framed(request: Buffer): Buffer {
  const head = Buffer.alloc(HEAD_BYTES)
  head.writeUInt32BE(request.length, 1)
  return Buffer.concat([head, request])
}

/** A caller of `ModelInfer`. */
export function unaryCaller(session: ClientHttp2Session): FuzzCaller {
  return {
    ask: (request) =>
      new Promise((resolve) => {
        const stream = open(session, 'ModelInfer')
        const chunks: Buffer[] = []
        let status: unknown
        const hear = (headers: Readonly<Record<string, unknown>>) => {
          status = headers['grpc-status'] ?? status
        }
        stream.on('response', hear)
        stream.on('trailers', hear)
        stream.on('data', (chunk: Buffer) => chunks.push(chunk))
        stream.on('close', () => {
          if (status === undefined) return resolve({ code: undefined })
          const message = Buffer.concat(chunks).subarray(HEAD_BYTES)
          resolve({ code: Number(status), response: status === '0' ? readUnary(message) : undefined })
        })
        stream.end(framed(request))
      }),
  }
}

function readUnary(message: Buffer): ModelInferResponse | undefined {
  return fromBinary(ModelInferResponseSchema, message)
}

/** A caller of `ModelStreamInfer`, on one stream that has to stay open. */
export function streamCaller(session: ClientHttp2Session): FuzzCaller {
  const stream = open(session, 'ModelStreamInfer')
  let pending = Buffer.alloc(0)
  let isClosed = false
  let answer: (answer: FuzzAnswer) => void = () => {}
  stream.on('data', (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk])
    const length = pending.length < HEAD_BYTES ? Number.POSITIVE_INFINITY : HEAD_BYTES + pending.readUInt32BE(1)
    if (pending.length < length) return
    const message = pending.subarray(HEAD_BYTES, length)
    pending = pending.subarray(length)
    answer(readStreamed(message))
  })
  stream.on('close', () => {
    isClosed = true
    answer({ code: undefined })
  })
  return {
    ask: (request) =>
      new Promise((resolve) => {
        answer = resolve
        if (isClosed) resolve({ code: undefined })
        else stream.write(framed(request))
      }),
  }
}

function readStreamed(message: Buffer): FuzzAnswer {
  const { errorMessage, inferResponse } = fromBinary(ModelStreamInferResponseSchema, message)
  if (errorMessage === '') return { code: 0, response: inferResponse }
  return { code: Number(inferResponse?.parameters.error_code?.parameterChoice.value ?? Number.NaN) }
}
