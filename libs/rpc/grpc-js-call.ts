import type { ClientDuplexStream, Client as GrpcClient, Metadata, ServiceError } from '@grpc/grpc-js'
import type { CallScope } from './call-scope.ts'
import { Code } from './code.ts'
import { Failure } from './failure.ts'
import { type AttemptFailure, parsePushback } from './retry.ts'
import { decodeStatus, hasErrorInfo, STATUS_DETAILS_KEY } from './status.ts'

/** A call that goes out on grpc-js. */
export interface OutgoingCall {
  readonly client: GrpcClient
  readonly path: string
  readonly metadata: Metadata
  readonly scope: CallScope
}

const same = (bytes: Buffer): Buffer => bytes

/** One attempt of a unary call; resolves with the answer or with how it failed. */
export function callOnce(call: OutgoingCall, request: Buffer): Promise<Buffer | AttemptFailure> {
  const { client, path, metadata, scope } = call
  return new Promise((resolve) => {
    const ended = scope.ended()
    if (ended !== undefined) {
      resolve({ failure: ended, pushback: undefined, effect: 'none' })
      return
    }
    let endedBy: Failure | undefined
    const deadline = scope.deadlineMs
    const unary = client.makeUnaryRequest(path, same, same, request, metadata, { deadline }, (error, answer) => {
      unlink()
      if (error !== null) resolve(attemptFailure(error, endedBy))
      else if (answer !== undefined) resolve(answer)
      else resolve({ failure: noAnswer(), pushback: undefined, effect: 'perhaps' })
    })
    const unlink = scope.onEnd((failure) => {
      endedBy = failure
      unary.cancel()
    })
  })
}

/**
 * A call with streams. The requests are asked for one by one as the server takes them; when the call is over, or the
 * reader stops early, their iterator is told to return.
 */
export async function* streamCall(
  call: OutgoingCall,
  requests: AsyncIterable<object> | Iterable<object>,
  encode: (request: object) => Buffer,
): AsyncGenerator<Buffer> {
  const { client, path, metadata, scope } = call
  const ended = scope.ended()
  if (ended !== undefined) throw ended
  let endedBy: unknown
  const end = (cause: unknown): void => {
    endedBy ??= cause
    stream.cancel()
  }
  const stream = client.makeBidiStreamRequest(path, same, same, metadata, { deadline: scope.deadlineMs })
  const unlink = scope.onEnd(end)
  const iterator = Symbol.asyncIterator in requests ? requests[Symbol.asyncIterator]() : requests[Symbol.iterator]()
  const sent = send(stream, iterator, encode).catch(end)
  try {
    for await (const answer of stream) yield answer
  } catch (error) {
    throw endedBy ?? failureOf(error as ServiceError)
  } finally {
    unlink()
    stream.cancel()
    stream.emit('drain') // lets a sender that waits for the server see that the call is over
    void Promise.resolve(iterator.return?.()).catch(() => {})
    void sent
  }
}

async function send(
  stream: ClientDuplexStream<Buffer, Buffer>,
  iterator: AsyncIterator<object> | Iterator<object>,
  encode: (request: object) => Buffer,
): Promise<void> {
  for (;;) {
    const { done, value } = await iterator.next()
    if (stream.destroyed) return
    if (done === true) break
    if (!stream.write(encode(value))) await new Promise<void>((resolve) => stream.once('drain', resolve))
  }
  stream.end()
}

/** How grpc-js says that a call never left, because there was no connection to send it on. */
const NOT_SENT = /^(No connection established|Name resolution failed)/

function attemptFailure(error: ServiceError, endedBy: Failure | undefined): AttemptFailure {
  const failure = endedBy ?? failureOf(error)
  const pushback = parsePushback(error.metadata.get('grpc-retry-pushback-ms')[0]?.toString())
  const refused = hasErrorInfo(detailsOf(error)) && failure.reason !== 'INTERRUPTED'
  return { failure, pushback, effect: refused || NOT_SENT.test(error.details) ? 'none' : 'perhaps' }
}

function failureOf(error: ServiceError): Failure {
  return decodeStatus({ code: error.code, message: error.details, details: detailsOf(error), cause: error })
}

function detailsOf(error: ServiceError): Buffer | undefined {
  const details = error.metadata?.get(STATUS_DETAILS_KEY)[0]
  return typeof details === 'string' ? undefined : details
}

/** INTERNAL for a unary call that ended well without a message. */
export function noAnswer(): Failure {
  return new Failure(Code.INTERNAL, 'NO_ANSWER', 'the server answered OK without a message')
}
