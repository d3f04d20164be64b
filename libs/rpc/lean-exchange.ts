import type { Http2Session, IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { constants } from 'node:http2'
import { Code } from './code.ts'
import type { Exchange, ExchangeListener, Settled, Trailers } from './exchange.ts'
import { Failure } from './failure.ts'
import { FrameWriter } from './frame-writer.ts'
import { ACCEPTED_ENCODINGS, decompress, FrameReader, tooLarge } from './framing.ts'
import { cancellation } from './grpc-js-exchange.ts'
import type { ServerLimits } from './limits.ts'
import { encodeStatus, percentEncode, pushbackTrailer, STATUS_DETAILS_KEY, statusMessage } from './status.ts'

const RESPONSE_HEADERS = { ':status': 200, 'content-type': 'application/grpc+proto' } as const
const WAIT_FOR_TRAILERS = { waitForTrailers: true } as const
const OK_TRAILERS = { 'grpc-status': '0' } as const

/**
 * An exchange on the HTTP/2 stream itself, without grpc-js: see docs/adr/0003-stream-transport.md.
 *
 * 1. The promises of Exchange.
 * 2. What is written in one turn of the event loop leaves together; an answer or a failure takes along what waits.
 * 3. Messages are heard in order also when some are compressed; while one is decompressed the caller is held back.
 * 4. After the call is over what still comes is read and dropped, and the caller is told to stop sending.
 */
export class LeanExchange implements Exchange {
  readonly path: string
  readonly deadlineMs: number
  cancelled = false
  halfClosed = false
  moves = 0
  readonly #stream: ServerHttp2Stream
  readonly #session: Http2Session | undefined
  readonly #headers: IncomingHttpHeaders
  readonly #limits: ServerLimits
  readonly #settled: Settled
  readonly #reader: FrameReader
  readonly #writer: FrameWriter
  readonly #timer: NodeJS.Timeout | undefined
  readonly #failure: Failure | undefined
  #listener: ExchangeListener | undefined
  #over = false
  #responded = false
  #paused = false
  #inflating: Promise<void> | undefined
  #trailers: OutgoingHttpHeaders = OK_TRAILERS

  /** `timeoutMs`: Infinity when the caller named none, undefined when it cannot be read, which fails the call. */
  constructor(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    timeoutMs: number | undefined,
    limits: ServerLimits,
    settled: Settled,
  ) {
    this.#stream = stream
    this.#session = stream.session // a stream that has ended does not know it any more
    this.#headers = headers
    this.#limits = limits
    this.#settled = settled
    this.path = headers[':path'] ?? ''
    this.#reader = new FrameReader(limits.maxRequestBytes, (message, compressed) => this.#take(message, compressed))
    this.#writer = new FrameWriter(stream, limits.streamBufferBytes, () => this.#respond())
    this.deadlineMs = Date.now() + (timeoutMs ?? 0)
    if (timeoutMs === undefined) {
      const message = `grpc-timeout "${headers['grpc-timeout']}" is no timeout`
      this.#failure = new Failure(Code.INVALID_ARGUMENT, 'MALFORMED_TIMEOUT', message)
    } else if (timeoutMs !== Number.POSITIVE_INFINITY) {
      this.#timer = setTimeout(() => this.#abort(cancellation(Number.NEGATIVE_INFINITY)), timeoutMs)
    }
  }

  get peer(): string {
    const session = this.#session
    if (session === undefined || session.destroyed) return 'unknown'
    return `${session.socket.remoteAddress}:${session.socket.remotePort}`
  }

  get needsDrain(): boolean {
    return this.#writer.needsDrain
  }

  header(name: string): string | undefined {
    const value = this.#headers[name]
    return Array.isArray(value) ? value[0] : value
  }

  listen(listener: ExchangeListener): void {
    const stream = this.#stream
    this.#listener = listener
    stream.on('error', ignore) // a broken stream is always followed by `close`
    stream.on('close', this.#onClose)
    if (this.#failure !== undefined) {
      this.#abort(this.#failure)
      return
    }
    stream.on('data', (chunk: Buffer) => this.#read(chunk))
    stream.on('end', () => this.#end())
    if (listener.drain !== undefined) {
      stream.on('drain', () => {
        if (!this.#over) listener.drain?.()
      })
    }
  }

  pause(): void {
    this.#paused = true
    this.#stream.pause()
  }

  resume(): void {
    this.#paused = false
    if (this.#inflating === undefined) this.#stream.resume()
  }

  write(message: Uint8Array): boolean {
    if (this.#over || !this.#fits(message)) return true
    this.moves++
    this.#writer.write(message)
    return !this.#writer.needsDrain
  }

  answer(message: Uint8Array, trailers?: Trailers): void {
    if (this.#over || !this.#fits(message)) return
    this.#writer.add(message)
    this.finish(trailers)
  }

  finish(trailers?: Trailers): void {
    if (this.#over) return
    if (trailers !== undefined) this.#trailers = { ...trailers, ...OK_TRAILERS }
    this.#finish(undefined)
  }

  fail(failure: Failure, trailers?: Trailers): void {
    if (this.#over) return
    this.#trailers = {
      ...pushbackTrailer(failure),
      ...trailers,
      'grpc-status': String(failure.code),
      'grpc-message': percentEncode(statusMessage(failure)),
      [STATUS_DETAILS_KEY]: Buffer.from(encodeStatus(failure)).toString('base64'),
    }
    if (failure.reason === 'UNKNOWN_ENCODING') this.#trailers['grpc-accept-encoding'] = ACCEPTED_ENCODINGS
    this.#finish(failure)
  }

  #finish(failure: Failure | undefined): void {
    const stream = this.#stream
    this.#over = true
    if (this.#timer !== undefined) clearTimeout(this.#timer)
    if (!stream.destroyed && !stream.closed) {
      if (!this.#responded && this.#writer.isEmpty) {
        stream.respond({ ...RESPONSE_HEADERS, ...this.#trailers }, { endStream: true })
        this.#release()
      } else {
        this.#writer.flush()
        stream.end()
      }
    }
    this.#settled(failure)
  }

  #respond(): void {
    if (this.#responded) return
    this.#responded = true
    this.#stream.respond(RESPONSE_HEADERS, WAIT_FOR_TRAILERS)
    this.#stream.on('wantTrailers', () => {
      this.#stream.sendTrailers(this.#trailers)
      this.#release()
    })
  }

  /**
   * Lets go of the stream. Its native handle keeps it alive through every young collection, and with it all that its
   * listeners hold: left in place they cost a third of the CPU time of a small call. What a caller still sends that was
   * answered before it had sent everything is read and dropped.
   */
  #release(): void {
    const stream = this.#stream
    stream.off('close', this.#onClose)
    for (const event of OWN_EVENTS) stream.removeAllListeners(event)
    if (stream.readableEnded) return
    stream.resume()
    setImmediate(() => {
      if (!stream.readableEnded && !stream.destroyed) stream.close(constants.NGHTTP2_NO_ERROR)
    })
  }

  #fits(message: Uint8Array): boolean {
    if (message.length <= this.#limits.maxResponseBytes) return true
    this.fail(tooLarge(message.length, this.#limits.maxResponseBytes))
    return false
  }

  #read(chunk: Buffer): void {
    if (this.#over) return
    const hear = (): void => this.#reader.push(chunk)
    try {
      if (this.#listener?.together === undefined) hear()
      else this.#listener.together(hear)
    } catch (error) {
      this.#abort(Failure.from(error))
    }
  }

  #take(message: Buffer, compressed: boolean): void {
    if (this.#over) return
    this.moves++
    if (!compressed && this.#inflating === undefined) this.#listener?.message(message)
    else this.#takeInOrder(message, compressed)
  }

  /** Delivers a message after the ones before it; of many in one piece only one at a time is decompressed. */
  #takeInOrder(message: Buffer, compressed: boolean): void {
    const { maxRequestBytes } = this.#limits
    this.#stream.pause()
    const turn = (this.#inflating ?? Promise.resolve()).then(async () => {
      try {
        const packed = compressed && !this.#over
        const bytes = packed ? await decompress(message, this.header('grpc-encoding'), maxRequestBytes) : message
        if (!this.#over) this.#listener?.message(bytes)
      } catch (error) {
        this.#abort(Failure.from(error))
      }
      if (this.#inflating !== turn) return
      this.#inflating = undefined
      if (!this.#paused) this.#stream.resume()
    })
    this.#inflating = turn
  }

  #end(): void {
    if (this.#stream.aborted) return // a reset looks like an end first; `close` follows
    this.halfClosed = true
    if (this.#inflating !== undefined) {
      void this.#inflating.then(() => this.#end())
    } else if (!this.#over) {
      if (this.#reader.atBoundary) this.#listener?.end()
      else this.#abort(new Failure(Code.INVALID_ARGUMENT, 'MALFORMED_FRAME', 'the call ended inside a message'))
    }
  }

  readonly #onClose = (): void => this.#close()

  #close(): void {
    if (this.#over) return
    const failure = cancellation(this.deadlineMs)
    this.#over = true
    this.cancelled = true
    if (this.#timer !== undefined) clearTimeout(this.#timer)
    this.#listener?.cancel(failure)
    this.#settled(failure)
  }

  /** Ends the call from this side for a reason that the listener did not give. */
  #abort(failure: Failure): void {
    if (this.#over) return
    this.fail(failure)
    this.cancelled = true
    this.#listener?.cancel(failure)
  }
}

/** What the exchange alone listens to on its stream, and no more once it is answered. */
const OWN_EVENTS = ['data', 'end', 'drain', 'wantTrailers'] as const

const ignore = (): void => {}
