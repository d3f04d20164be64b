/** Every reason for which the service refuses or fails a request, with the phrases that clients of the protocol look for. */
import { Code, Failure } from '@slipway/rpc'

const MAX_ECHOED_CHARACTERS = 120

/** A name that came from outside, short enough to be sent back. */
export function echo(text: string): string {
  return text.length > MAX_ECHOED_CHARACTERS ? `${text.slice(0, MAX_ECHOED_CHARACTERS)}…` : text
}

/** INVALID_ARGUMENT about one field of the request. */
export function invalid(field: string, message: string): Failure {
  return new Failure(Code.INVALID_ARGUMENT, 'INVALID_TENSOR', message, {
    violations: [{ field, description: message }],
  })
}

/** The bytes are no ModelInferRequest. */
export function malformed(cause: unknown): Failure {
  return new Failure(Code.INVALID_ARGUMENT, 'MALFORMED_REQUEST', 'the request is not a valid ModelInferRequest', {
    cause,
  })
}

/** What is said when a request cannot be answered, by the reason. */
export const refusal = {
  unknownModel: (model: string) =>
    new Failure(Code.NOT_FOUND, 'UNKNOWN_MODEL', `Request for unknown model: '${echo(model)}' is not found`),
  unknownVersion: (model: string, version: string) =>
    new Failure(
      Code.NOT_FOUND,
      'UNKNOWN_VERSION',
      `Request for unknown model: '${echo(model)}' version ${echo(version)} is not found`,
    ),
  noVersions: (model: string) =>
    new Failure(
      Code.NOT_FOUND,
      'UNKNOWN_VERSION',
      `Request for unknown model: '${echo(model)}' has no available versions`,
    ),
  notReady: (model: string, version: string) =>
    new Failure(
      Code.UNAVAILABLE,
      'VERSION_NOT_READY',
      `Request for unavailable model: '${echo(model)}' version ${echo(version)} is not at ready state`,
      { retryAfterMs: 200 },
    ),
  loadFailed: (model: string, version: string, why: string, cause?: unknown) =>
    new Failure(
      Code.FAILED_PRECONDITION,
      'LOAD_FAILED',
      `failed to load '${echo(model)}' version ${echo(version)}: ${why}`,
      {
        cause,
      },
    ),
  digestMismatch: (name: string, expected: string, found: string) =>
    new Failure(Code.FAILED_PRECONDITION, 'DIGEST_MISMATCH', `${name} has digest ${found}, not ${expected}`, {
      metadata: { expected, found },
    }),
  wrongManifest: (name: string, digest: string) =>
    new Failure(
      Code.DATA_LOSS,
      'DIGEST_MISMATCH',
      `what the registry says of ${name} is not what ${digest} was taken of`,
      {
        metadata: { digest },
      },
    ),
  aliased: (name: string) =>
    new Failure(
      Code.FAILED_PRECONDITION,
      'VERSION_ALIASED',
      `${name} is what an alias points to, or what a served folder holds: move the alias or the files first`,
    ),
  notHeld: (name: string, cause: unknown) =>
    new Failure(
      Code.FAILED_PRECONDITION,
      'VERSION_NOT_HELD',
      `${name} is registered, but this server does not hold it: have it loaded first (slipway loaded load ${name})`,
      { cause },
    ),
  held: (name: string) =>
    new Failure(
      Code.FAILED_PRECONDITION,
      'VERSION_HELD',
      `another loaded version needs ${name}: unload that one first`,
    ),
  tooManyWaiters: (name: string, most: number) =>
    new Failure(Code.RESOURCE_EXHAUSTED, 'TOO_MANY_WAITERS', `${most} callers wait for ${name} to be loaded already`, {
      retryAfterMs: 1000,
    }),
  outOfMemory: (name: string, neededBytes: number, budgetBytes: number) =>
    new Failure(
      Code.RESOURCE_EXHAUSTED,
      'MEMORY_BUDGET',
      `${name} needs about ${neededBytes} bytes of memory, and what is in use leaves too little of the ${budgetBytes} that models may take`,
      { metadata: { neededBytes: String(neededBytes), budgetBytes: String(budgetBytes) }, retryAfterMs: 5000 },
    ),
  exampleMismatch: (name: string, text: string, metadata: Readonly<Record<string, string>> = {}, cause?: unknown) =>
    new Failure(
      Code.FAILED_PRECONDITION,
      'EXAMPLE_MISMATCH',
      `${name} does not answer its registered example as it was recorded: ${text}`,
      { metadata: { ...metadata }, cause },
    ),
  quarantined: (model: string, version: string) =>
    new Failure(
      Code.FAILED_PRECONDITION,
      'VERSION_QUARANTINED',
      `model '${model}' version ${version} is quarantined: its executor died too often`,
    ),
  executorDied: (model: string, version: string) =>
    new Failure(
      Code.INTERNAL,
      'EXECUTOR_DIED',
      `the executor of model '${model}' version ${version} died while it ran this request`,
    ),
  runFailed: (model: string, version: string, text: string) =>
    new Failure(
      Code.INTERNAL,
      'MODEL_RUN_FAILED',
      `model '${model}' version ${version} failed to run: ${firstLine(text)}`,
    ),
  deadline: (model: string) =>
    untraced(
      Code.DEADLINE_EXCEEDED,
      'DEADLINE_EXCEEDED',
      `Request timeout expired while it waited for model '${model}'`,
    ),
  cancelled: () => untraced(Code.CANCELLED, 'CANCELLED', 'the caller is gone'),
  queueFull: (model: string, why: string, retryAfterMs: number) =>
    untraced(Code.RESOURCE_EXHAUSTED, 'QUEUE_FULL', `Exceeds maximum queue size for model '${model}': ${why}`, {
      retryAfterMs: Math.max(1, Math.ceil(retryAfterMs)),
    }),
  stopping: () => new Failure(Code.UNAVAILABLE, 'STOPPING', 'the server is stopping'),
} as const

/** A failure of which there are thousands a second when there are any: where in the code it was made is not worth what that costs. */
function untraced(...words: ConstructorParameters<typeof Failure>): Failure {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0
  const failure = new Failure(...words)
  Error.stackTraceLimit = stackTraceLimit
  return failure
}

/** The first line of a runtime's text: what follows are places in its own code. */
function firstLine(text: string): string {
  return text.split('\n', 1)[0]?.slice(0, 400) ?? ''
}
