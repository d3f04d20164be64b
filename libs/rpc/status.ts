import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { type Any, anyPack, anyUnpack, type Duration } from '@bufbuild/protobuf/wkt'
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from '@slipway/proto/google/rpc/error_details'
import { StatusSchema } from '@slipway/proto/google/rpc/status'
import { type Code, codeName, codeOf } from './code.ts'
import { Failure, type FailureOptions, type FieldViolation } from './failure.ts'

// How a failure looks on the wire, and back. Trailers are headers: what goes into them is bounded by name.

/** Metadata key of the serialised google.rpc.Status; base64 on the wire, as every key that ends in `-bin`. */
export const STATUS_DETAILS_KEY = 'grpc-status-details-bin'
/** Longest message that is sent, in characters. */
export const MAX_MESSAGE_CHARACTERS = 1024
/** Metadata key by which a server says after how many milliseconds to try again (gRFC A6). */
export const PUSHBACK_KEY = 'grpc-retry-pushback-ms'
/** Most field violations, and most metadata entries, that are sent. */
export const MAX_VIOLATIONS = 32
const MAX_DESCRIPTION_CHARACTERS = 256
const MAX_PUSHBACK_MS = 2 ** 31 - 1
const ERROR_DOMAIN = 'slipway'

/** Statuses that are kept, all forgotten when they are more. */
const MAX_KNOWN_STATUSES = 512
const MAX_KNOWN_CHARACTERS = 512
const knownStatuses = new Map<string, Uint8Array>()

const clip = (text: string, characters: number): string =>
  (text.length > characters ? `${text.slice(0, characters - 1)}…` : text).toWellFormed()

/** The message that is sent for a failure. */
export function statusMessage(failure: Failure): string {
  return clip(failure.message, MAX_MESSAGE_CHARACTERS)
}

/** The trailer that says when to try again; none when the failure does not. */
export function pushbackTrailer({ retryAfterMs }: Failure): Readonly<Record<string, string>> | undefined {
  if (retryAfterMs === undefined) return undefined
  return { [PUSHBACK_KEY]: String(Math.min(Math.ceil(retryAfterMs), MAX_PUSHBACK_MS)) }
}

/** Text as `grpc-message` carries it: percent-encoded but for printable ASCII. */
export function percentEncode(text: string): string {
  return text.replace(/[^\x20-\x24\x26-\x7e]+/g, (run) => encodeURIComponent(run.toWellFormed()))
}

/** What a `grpc-message` says; text that is not percent-encoded comes back as it is. */
export function percentDecode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/**
 * A failure as a serialised google.rpc.Status with its details. Those that say the same share their bytes, which must not be
 * changed: a server that refuses thousands of calls a second tells all of them the same few things.
 */
export function encodeStatus(failure: Failure): Uint8Array {
  const { code, reason, message, violations, metadata, retryAfterMs } = failure
  if (violations.length > 0 || Object.keys(metadata).length > 0) return encodeAnew(failure)
  const key = `${code} ${retryAfterMs} ${reason.length} ${reason}${message}`
  if (key.length > MAX_KNOWN_CHARACTERS) return encodeAnew(failure)
  let bytes = knownStatuses.get(key)
  if (bytes === undefined) {
    bytes = encodeAnew(failure)
    if (knownStatuses.size >= MAX_KNOWN_STATUSES) knownStatuses.clear()
    knownStatuses.set(key, bytes)
  }
  return bytes
}

function encodeAnew(failure: Failure): Uint8Array {
  const { violations, retryAfterMs } = failure
  const reason = clip(failure.reason, MAX_DESCRIPTION_CHARACTERS)
  const metadata = Object.fromEntries(
    Object.entries(failure.metadata)
      .slice(0, MAX_VIOLATIONS)
      .map(([key, value]) => [clip(key, MAX_DESCRIPTION_CHARACTERS), clip(value, MAX_DESCRIPTION_CHARACTERS)]),
  )
  const info = create(ErrorInfoSchema, { reason, domain: ERROR_DOMAIN, metadata })
  const details: Any[] = [anyPack(ErrorInfoSchema, info)]
  if (violations.length > 0) {
    const fieldViolations = violations.slice(0, MAX_VIOLATIONS).map(({ field, description }) => ({
      field: clip(field, MAX_DESCRIPTION_CHARACTERS),
      description: clip(description, MAX_DESCRIPTION_CHARACTERS),
    }))
    details.push(anyPack(BadRequestSchema, create(BadRequestSchema, { fieldViolations })))
  }
  if (retryAfterMs !== undefined) {
    const retryDelay = durationOf(retryAfterMs)
    details.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay })))
  }
  return toBinary(StatusSchema, create(StatusSchema, { code: failure.code, message: statusMessage(failure), details }))
}

/** The failure that a status line and its details, when there are any, stand for. */
export function decodeStatus(status: {
  readonly code: number
  readonly message: string
  readonly details: Uint8Array | undefined
  readonly cause?: unknown
}): Failure {
  const code = codeOf(status.code)
  const { reason, message = status.message, ...found } = readDetails(status.details)
  const options: FailureOptions = status.cause === undefined ? found : { ...found, cause: status.cause }
  return new Failure(code, reason ?? codeName(code), message, options)
}

/** Whether these details say that an application, and not a proxy or the transport, answered. */
export function hasErrorInfo(details: Uint8Array | undefined): boolean {
  return readDetails(details).reason !== undefined
}

interface Details {
  message?: string
  reason?: string
  metadata?: Record<string, string>
  violations?: FieldViolation[]
  retryAfterMs?: number
}

function readDetails(bytes: Uint8Array | undefined): Details {
  const found: Details = {}
  if (bytes === undefined) return found
  try {
    const status = fromBinary(StatusSchema, bytes)
    if (status.message !== '') found.message = status.message
    for (const detail of status.details) readDetail(detail, found)
  } catch {
    // Details that cannot be read are no reason to hide the status they came with.
  }
  return found
}

function readDetail(detail: Any, found: Details): void {
  const info = anyUnpack(detail, ErrorInfoSchema)
  if (info !== undefined) {
    found.reason = info.reason
    found.metadata = info.metadata
  }
  const bad = anyUnpack(detail, BadRequestSchema)
  if (bad !== undefined) {
    found.violations = bad.fieldViolations.map(({ field, description }) => ({ field, description }))
  }
  const retry = anyUnpack(detail, RetryInfoSchema)?.retryDelay
  if (retry !== undefined) found.retryAfterMs = millisecondsOf(retry)
}

const durationOf = (ms: number): { seconds: bigint; nanos: number } => ({
  seconds: BigInt(Math.floor(ms / 1000)),
  nanos: Math.round((ms % 1000) * 1_000_000),
})

const millisecondsOf = (duration: Duration): number => Number(duration.seconds) * 1000 + duration.nanos / 1_000_000

/** Reads a status code that came as text. */
export function parseCode(text: string | undefined): Code | undefined {
  return text !== undefined && /^\d{1,3}$/.test(text) ? codeOf(Number(text)) : undefined
}
