import { Metadata, type ServerDuplexStream } from '@grpc/grpc-js'
import { Code } from './code.ts'
import type { Exchange, ExchangeListener, Settled, Trailers } from './exchange.ts'
import { Failure } from './failure.ts'
import { encodeStatus, pushbackTrailer, STATUS_DETAILS_KEY, statusMessage } from './status.ts'

/** The part of an HTTP/2 stream that grpc-js does not hand on. */
export interface Abortable {
  /** Whether the caller reset it. */
  readonly aborted: boolean
}

/**
 * An exchange on grpc-js. Every method is registered there as a bidirectional stream of bytes, whatever its kind, so
 * that one place decides what a missing or a second message means. grpc-js measures deadlines and message sizes itself.
 *
 * Traps of grpc-js this file keeps away from the rest: an error status is an `error` event that must carry its own
 * metadata, `cancelled` is emitted after every call, also one that ended well, a message that cannot be
 * percent-encoded throws, and a call that was reset ends like one that was half-closed, so that half an upload looks like
 * a whole one: that is what `http2Stream` is for.
 */
export function grpcJsExchange(
  stream: ServerDuplexStream<Buffer, Buffer>,
  http2Stream: Abortable | undefined,
  settled: Settled,
): Exchange {
  const deadline = stream.getDeadline()
  const deadlineMs = typeof deadline === 'number' ? deadline : deadline.getTime()
  let over = false
  let cancelled = false
  let halfClosed = false
  let moves = 0
  const finish = (trailers?: Trailers): void => {
    if (over) return
    over = true
    stream.end(trailers === undefined ? undefined : metadataOf(trailers))
    settled(undefined)
  }
  return {
    path: stream.getPath(),
    peer: stream.getPeer(),
    deadlineMs,
    get cancelled() {
      return cancelled
    },
    get needsDrain() {
      return stream.writableNeedDrain
    },
    get halfClosed() {
      return halfClosed
    },
    get moves() {
      return moves
    },
    header: (name: string) => headerOf(stream.metadata, name),
    listen(listener: ExchangeListener) {
      stream.on('data', (bytes: Buffer) => {
        moves++
        if (!over) listener.message(bytes)
      })
      stream.on('end', () => {
        if (http2Stream?.aborted === true) return // `cancelled` follows
        halfClosed = true
        if (!over) listener.end()
      })
      stream.on('drain', () => {
        if (!over) listener.drain?.()
      })
      stream.on('cancelled', () => {
        if (over) return
        over = true
        cancelled = true
        const failure = cancellation(deadlineMs)
        listener.cancel(failure)
        settled(failure)
      })
    },
    pause: () => void stream.pause(),
    resume: () => void stream.resume(),
    write(message: Uint8Array) {
      moves++
      return over || stream.write(asBuffer(message))
    },
    answer(message: Uint8Array, trailers?: Trailers) {
      if (over) return
      stream.write(asBuffer(message))
      finish(trailers)
    },
    finish,
    fail(failure: Failure, trailers?: Trailers) {
      if (over) return
      over = true
      const metadata = metadataOf({ ...pushbackTrailer(failure), ...trailers })
      metadata.set(STATUS_DETAILS_KEY, Buffer.from(encodeStatus(failure)))
      stream.emit('error', { code: failure.code, details: statusMessage(failure), message: '', metadata })
      settled(failure)
    },
  }
}

/** Why a call ended before this side ended it. */
export function cancellation(deadlineMs: number): Failure {
  return Date.now() >= deadlineMs
    ? new Failure(Code.DEADLINE_EXCEEDED, 'DEADLINE_EXCEEDED', 'the deadline passed')
    : new Failure(Code.CANCELLED, 'CANCELLED', 'the caller cancelled')
}

const asBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

function headerOf(metadata: Metadata, name: string): string | undefined {
  const value = metadata.get(name)[0]
  return value === undefined || typeof value === 'string' ? value : value.toString('base64')
}

function metadataOf(trailers: Trailers): Metadata {
  const metadata = new Metadata()
  for (const [name, value] of Object.entries(trailers)) metadata.set(name, value)
  return metadata
}
