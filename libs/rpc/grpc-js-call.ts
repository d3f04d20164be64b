import type { Client as GrpcClient, Metadata, ServiceError } from '@grpc/grpc-js'
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

/** A call with one request and a stream of answers; a reader that stops early cancels it. */
export async function* callForStream(call: OutgoingCall, request: Buffer): AsyncGenerator<Buffer> {
  const { client, path, metadata, scope } = call
  const ended = scope.ended()
  if (ended !== undefined) throw ended
  let endedBy: Failure | undefined
  const stream = client.makeServerStreamRequest(path, same, same, request, metadata, { deadline: scope.deadlineMs })
  const unlink = scope.onEnd((failure) => {
    endedBy = failure
    stream.cancel()
  })
  try {
    for await (const answer of stream) yield answer
  } catch (error) {
    throw endedBy ?? failureOf(error as ServiceError)
  } finally {
    unlink()
    stream.cancel()
  }
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
  const message = error.details.replace(RESERVED, decodeURIComponent)
  return decodeStatus({ code: error.code, message, details: detailsOf(error), cause: error })
}

/** What grpc-js leaves percent-encoded in a message: the characters that are reserved in a URI. */
const RESERVED = /%(?:3B|2F|3F|3A|40|26|3D|2B|24|2C|23)/gi

function detailsOf(error: ServiceError): Buffer | undefined {
  const details = error.metadata?.get(STATUS_DETAILS_KEY)[0]
  return typeof details === 'string' ? undefined : details
}

/** INTERNAL for a unary call that ended well without a message. */
export function noAnswer(): Failure {
  return new Failure(Code.INTERNAL, 'NO_ANSWER', 'the server answered OK without a message')
}
