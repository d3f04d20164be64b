/**
 * Log lines: one JSON object each on standard error, with the ids of the trace that they were written in.
 *
 * `message` is a constant phrase; what varies goes into fields. Feature values and tensors are never fields.
 */
import { isSpanContextValid, trace } from '@opentelemetry/api'

/** From which severity on lines are written. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'off'

/** What varies from line to line; `error` is written with its name, reason, message, stack and causes. */
export interface LogFields {
  readonly error?: unknown
  readonly [field: string]: unknown
}

/** Writes log lines of one scope. */
export interface Logger {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
}

const severity: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3, off: 4 }
const maxCauses = 5

const writeToStandardError = (line: string): void => {
  process.stderr.write(line)
}

let threshold = severity.info
let write = writeToStandardError

/** Sets level and destination for the whole process; what is left out stays as it is. */
export function useLogging(options: {
  readonly level?: LogLevel | undefined
  readonly write?: ((line: string) => void) | undefined
}): void {
  if (options.level !== undefined) threshold = severity[options.level]
  if (options.write !== undefined) write = options.write
}

/** The logger of a scope, such as `slipway.registry`. */
export function logger(scope: string): Logger {
  const at = (level: LogLevel) => (message: string, fields?: LogFields) => {
    if (severity[level] >= threshold) write(format(scope, level, message, fields))
  }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

function format(scope: string, level: LogLevel, message: string, fields: LogFields = {}): string {
  const span = trace.getActiveSpan()?.spanContext()
  const { error, ...rest } = fields
  const line = {
    time: new Date().toISOString(),
    level,
    scope,
    message,
    ...rest,
    ...(error === undefined ? {} : { error: describeError(error) }),
    ...(span !== undefined && isSpanContextValid(span) ? { trace_id: span.traceId, span_id: span.spanId } : {}),
  }
  return `${JSON.stringify(line, (_key, value: unknown) => (typeof value === 'bigint' ? value.toString() : value))}\n`
}

function describeError(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return String(error)
  const { reason, code } = error as { reason?: unknown; code?: unknown }
  return {
    name: error.name,
    message: error.message,
    ...(reason === undefined ? {} : { reason }),
    ...(code === undefined ? {} : { code }),
    stack: error.stack,
    ...(error.cause === undefined || depth === maxCauses ? {} : { cause: describeError(error.cause, depth + 1) }),
  }
}
