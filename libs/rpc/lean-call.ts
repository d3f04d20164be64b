import { type ClientHttp2Stream, constants, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http2'
import { deadlineExceeded } from './call-scope.ts'
import { Code } from './code.ts'
import { Failure } from './failure.ts'
import { FrameWriter } from './frame-writer.ts'
import { FrameReader, tooLarge } from './framing.ts'
import { connectionLost, type LeanSession } from './lean-session.ts'
import type { ClientLimits } from './limits.ts'
import { decodeStatus, parseCode, percentDecode, STATUS_DETAILS_KEY } from './status.ts'
import { MAX_TIMER_MS } from './timeout.ts'

/** Who hears of a call that goes out. */
export interface LeanCallListener {
  /** An answer. */
  message(bytes: Buffer): void
  /** The call is over: nothing for OK, else why. Heard exactly once, and last. */
  closed(failure: Failure | undefined): void
  /** What was written is on its way. */
  drain?(): void
}

/**
 * The caller's side of one call on an HTTP/2 stream.
 *
 * 1. Answers are heard in order, then the end, exactly once, whatever happens to the stream.
 * 2. A status that the server sent is what the end says; a stream that ends without one is told by how it ended, and a
 *    lost connection is UNAVAILABLE.
 * 3. A call that is cancelled before it sent everything is reset and not half-closed first. (`close` of a stream of
 *    Node.js sends END_STREAM before RST_STREAM: the server would take half an upload for a whole one.)
 */
export class LeanCall {
  readonly #stream: ClientHttp2Stream
  readonly #session: LeanSession
  readonly #listener: LeanCallListener
  readonly #reader: FrameReader
  readonly #writer: FrameWriter
  readonly #reset: AbortController | undefined
  readonly #maxRequestBytes: number
  readonly #timer: NodeJS.Timeout | undefined
  #outcome: { readonly failure: Failure | undefined } | undefined
  #error: Error | undefined
  #over = false

  /** `kind`: a unary call is half-closed in the turn in which it is made, a stream later. */
  constructor(
    kind: 'unary' | 'stream',
    session: LeanSession,
    headers: OutgoingHttpHeaders,
    limits: ClientLimits,
    deadlineMs: number,
    listener: LeanCallListener,
  ) {
    this.#reset = kind === 'stream' ? new AbortController() : undefined
    const stream = session.request(headers, this.#reset?.signal)
    this.#stream = stream
    this.#session = session
    this.#listener = listener
    this.#maxRequestBytes = limits.maxRequestBytes
    this.#writer = new FrameWriter(stream, limits.streamBufferBytes)
    this.#reader = new FrameReader(limits.maxResponseBytes, (message, compressed) => {
      if (compressed) throw new Failure(Code.INTERNAL, 'UNKNOWN_ENCODING', 'the answer is compressed')
      if (!this.#over) listener.message(message)
    })
    if (deadlineMs !== Number.POSITIVE_INFINITY) {
      const waitMs = Math.min(Math.max(0, deadlineMs - Date.now()), MAX_TIMER_MS)
      this.#timer = setTimeout(() => this.cancel(deadlineExceeded()), waitMs)
    }
    stream.on('response', (headers) => this.#headers(headers))
    stream.on('trailers', (headers) => this.#status(headers))
    stream.on('data', (chunk: Buffer) => this.#data(chunk))
    stream.on('error', (error) => {
      this.#error = error // `close` follows
    })
    stream.on('end', () => this.#end())
    stream.on('close', () => this.#close())
    if (listener.drain !== undefined) stream.on('drain', () => listener.drain?.())
  }

  /** True while more waits for the server than should. */
  get needsDrain(): boolean {
    return this.#writer.needsDrain
  }

  /** Stops reading, so that the server is held back. */
  pause(): void {
    this.#stream.pause()
  }

  /** Reads on. */
  resume(): void {
    this.#stream.resume()
  }

  /** Sends a message at the end of this turn of the event loop. */
  write(message: Uint8Array): void {
    if (this.#fits(message)) this.#writer.write(message)
  }

  /** Sends no more. */
  end(): void {
    this.#writer.flush()
    this.#stream.end()
  }

  /** Sends the only message. */
  endWith(message: Uint8Array): void {
    if (!this.#fits(message)) return
    this.#writer.add(message)
    this.end()
  }

  /** Ends the call from this side; the listener hears of it before long, but not inside this call. */
  cancel(failure: Failure): void {
    if (this.#over) return
    this.#fail(failure)
    process.nextTick(() => this.#finish())
  }

  #fits(message: Uint8Array): boolean {
    if (message.length > this.#maxRequestBytes) this.cancel(tooLarge(message.length, this.#maxRequestBytes))
    return this.#outcome === undefined
  }

  #headers(headers: IncomingHttpHeaders): void {
    if (headers['grpc-status'] !== undefined) this.#status(headers)
    else if (Number(headers[':status']) !== 200) this.#fail(httpFailure(Number(headers[':status'])))
  }

  #status(headers: IncomingHttpHeaders): void {
    const text = headers['grpc-status']
    const code = parseCode(Array.isArray(text) ? text[0] : text)
    if (code === Code.OK) {
      this.#outcome ??= { failure: undefined }
      return
    }
    const message = percentDecode(String(headers['grpc-message'] ?? ''))
    const encoded = headers[STATUS_DETAILS_KEY]
    const details = encoded === undefined ? undefined : Buffer.from(String(encoded), 'base64')
    this.#outcome ??= { failure: decodeStatus({ code: code ?? Code.UNKNOWN, message, details }) }
  }

  #data(chunk: Buffer): void {
    if (this.#over) return
    try {
      this.#reader.push(chunk)
    } catch (error) {
      this.#fail(Failure.from(error))
    }
  }

  #fail(failure: Failure): void {
    this.#outcome ??= { failure }
    this.#cut()
  }

  #cut(): void {
    if (this.#reset === undefined) this.#stream.close(constants.NGHTTP2_CANCEL)
    else this.#reset.abort()
  }

  /** The server has said everything; a call that was not half-closed would stay open for ever. */
  #end(): void {
    if (this.#outcome === undefined) return
    this.#finish()
    if (!this.#stream.writableEnded) this.#cut()
  }

  #close(): void {
    const lost = this.#session.gone ? connectionLost(this.#error) : undefined
    this.#outcome ??= { failure: lost ?? resetFailure(this.#stream.rstCode) }
    this.#finish()
  }

  #finish(): void {
    if (this.#over) return
    this.#over = true
    if (this.#timer !== undefined) clearTimeout(this.#timer)
    this.#listener.closed(this.#outcome?.failure)
  }
}

/** Reason of a failure for a call that the server never looked at: it may be sent again whatever it does. */
export const REFUSED = 'REFUSED'

function resetFailure(code: number | undefined): Failure {
  switch (code) {
    case constants.NGHTTP2_REFUSED_STREAM:
      return new Failure(Code.UNAVAILABLE, REFUSED, 'the server refused the call')
    case constants.NGHTTP2_CANCEL:
      return new Failure(Code.CANCELLED, 'CANCELLED', 'the server cancelled the call')
    case constants.NGHTTP2_ENHANCE_YOUR_CALM:
      return new Failure(Code.RESOURCE_EXHAUSTED, 'TOO_FAST', 'the server asks for fewer calls or smaller headers')
    default:
      return new Failure(Code.INTERNAL, 'NO_STATUS', `the call ended without a status (HTTP/2 code ${code})`)
  }
}

const httpCodes = new Map<number, Code>([
  [401, Code.UNAUTHENTICATED],
  [403, Code.PERMISSION_DENIED],
  [404, Code.UNIMPLEMENTED],
  [429, Code.UNAVAILABLE],
  [502, Code.UNAVAILABLE],
  [503, Code.UNAVAILABLE],
  [504, Code.UNAVAILABLE],
])

function httpFailure(status: number): Failure {
  return new Failure(httpCodes.get(status) ?? Code.UNKNOWN, 'NOT_GRPC', `the server answered HTTP ${status}`)
}
