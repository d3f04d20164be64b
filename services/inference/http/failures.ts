/** What is refused because of how it came, and how any failure is said over HTTP. */
import { Code, Failure } from '@slipway/rpc'

/** What is said to a request that HTTP itself has something against. */
export const httpRefusal = {
  unknownPath: () => new Failure(Code.NOT_FOUND, 'UNKNOWN_PATH', 'there is nothing at this path'),
  wrongMethod: (allowed: string) =>
    new Failure(Code.UNIMPLEMENTED, 'METHOD_NOT_ALLOWED', `this path takes ${allowed}`, { metadata: { allowed } }),
  tooLarge: (what: string, maxBytes: number) =>
    new Failure(Code.RESOURCE_EXHAUSTED, 'REQUEST_TOO_LARGE', `${what} is larger than ${maxBytes} bytes`),
  tooManyBodies: () =>
    new Failure(Code.RESOURCE_EXHAUSTED, 'TOO_MANY_BODIES', 'too many bytes of requests are on their way', {
      retryAfterMs: 1000,
    }),
  unknownEncoding: () =>
    new Failure(Code.UNIMPLEMENTED, 'UNSUPPORTED_ENCODING', 'a body may come as gzip, deflate or identity'),
  crossSite: () =>
    new Failure(Code.PERMISSION_DENIED, 'CROSS_SITE', 'a page of another site may not send requests here'),
  badBody: (why: string, cause?: unknown) => new Failure(Code.INVALID_ARGUMENT, 'MALFORMED_REQUEST', why, { cause }),
  badHeader: (name: string, why: string) =>
    new Failure(Code.INVALID_ARGUMENT, 'MALFORMED_REQUEST', `header ${name}: ${why}`, {
      violations: [{ field: name, description: why }],
    }),
  answerTooLarge: (maxBytes: number) =>
    new Failure(Code.RESOURCE_EXHAUSTED, 'ANSWER_TOO_LARGE', `the answer is larger than ${maxBytes} bytes`),
} as const

const statusByReason = new Map([
  ['METHOD_NOT_ALLOWED', 405],
  ['REQUEST_TOO_LARGE', 413],
  ['UNSUPPORTED_ENCODING', 415],
  // Nothing is wrong with the request: another server may well answer it.
  ['VERSION_QUARANTINED', 503],
  ['LOAD_FAILED', 503],
  ['EXAMPLE_MISMATCH', 503],
  // Asking again would change nothing, which 429 invites to.
  ['ANSWER_TOO_LARGE', 400],
])

const statusByCode: ReadonlyMap<Code, number> = new Map<Code, number>([
  [Code.OK, 200],
  [Code.CANCELLED, 499],
  [Code.INVALID_ARGUMENT, 400],
  [Code.DEADLINE_EXCEEDED, 504],
  [Code.NOT_FOUND, 404],
  [Code.ALREADY_EXISTS, 409],
  [Code.PERMISSION_DENIED, 403],
  [Code.RESOURCE_EXHAUSTED, 429],
  [Code.FAILED_PRECONDITION, 400],
  [Code.ABORTED, 409],
  [Code.OUT_OF_RANGE, 400],
  [Code.UNIMPLEMENTED, 501],
  [Code.UNAVAILABLE, 503],
  [Code.UNAUTHENTICATED, 401],
])

/** The HTTP status of a failure. */
export function statusOf({ code, reason }: Failure): number {
  return statusByReason.get(reason) ?? statusByCode.get(code) ?? 500
}

/** The body of a failure: its text as `error`, and for a program its reason, the field and when to try again. */
export function failureText({ message, reason, violations, retryAfterMs }: Failure): string {
  return JSON.stringify({ error: message, reason, field: violations[0]?.field, retry_after_ms: retryAfterMs })
}

/** The headers that a failure has besides those of every answer. */
export function failureHeaders({ metadata, reason, retryAfterMs }: Failure): Record<string, string> {
  return {
    ...(reason === 'METHOD_NOT_ALLOWED' && metadata.allowed !== undefined ? { allow: metadata.allowed } : {}),
    ...(retryAfterMs === undefined ? {} : { 'retry-after': String(Math.max(1, Math.ceil(retryAfterMs / 1000))) }),
  }
}
