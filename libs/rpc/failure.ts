import { Code } from './code.ts'

/** What is wrong with one field of a request. */
export interface FieldViolation {
  /** Path of the field, such as `rows[3].label`. */
  readonly field: string
  /** What is wrong with it, for a person. */
  readonly description: string
}

/** What a failure may carry besides code, reason and message. */
export interface FailureOptions {
  /** Facts for a program, such as the name of the resource; keys in lowerCamelCase. */
  readonly metadata?: Readonly<Record<string, string>>
  /** Fields of the request that are wrong. */
  readonly violations?: readonly FieldViolation[]
  /** How long to wait before trying again. */
  readonly retryAfterMs?: number
  /** What happened underneath; logged, never sent. */
  readonly cause?: unknown
}

/**
 * The one error of Slipway. A handler throws it, the caller's client throws an equal one: code, reason, message,
 * metadata, violations and retry delay travel as google.rpc.Status with ErrorInfo, BadRequest and RetryInfo.
 */
export class Failure extends Error {
  readonly code: Code
  /** Why, in UPPER_SNAKE_CASE; what a program should decide by. */
  readonly reason: string
  readonly metadata: Readonly<Record<string, string>>
  readonly violations: readonly FieldViolation[]
  readonly retryAfterMs: number | undefined

  constructor(code: Code, reason: string, message: string, options: FailureOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'Failure'
    this.code = code
    this.reason = reason
    this.metadata = options.metadata ?? {}
    this.violations = options.violations ?? []
    this.retryAfterMs = options.retryAfterMs
  }

  /** The error itself if it is a failure; an opaque INTERNAL with the error as its cause if it is anything else. */
  static from(error: unknown): Failure {
    if (error instanceof Failure) return error
    return new Failure(Code.INTERNAL, 'INTERNAL', 'internal error', { cause: error })
  }

  /** INVALID_ARGUMENT about one field. */
  static invalid(field: string, description: string): Failure {
    return new Failure(Code.INVALID_ARGUMENT, 'INVALID_FIELD', `${field}: ${description}`, {
      violations: [{ field, description }],
    })
  }
}
