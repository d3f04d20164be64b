import { type Context, context as traceContext } from '@opentelemetry/api'
import { Code } from './code.ts'
import { currentServerContext } from './context.ts'
import { Failure } from './failure.ts'

/** What one call may say. */
export interface CallOptions {
  /** Cancels the call. */
  readonly signal?: AbortSignal | undefined
  /** How long to wait; a call that is made for another call never waits longer than that one's caller. */
  readonly timeoutMs?: number | undefined
  /** Metadata to send. */
  readonly headers?: Readonly<Record<string, string>> | undefined
}

/** What a call that goes out is bound by: its own options, and the call on behalf of which it is made. */
export interface CallScope {
  /** In epoch milliseconds; Infinity when there is none. */
  readonly deadlineMs: number
  /** The trace that the call belongs to. */
  readonly trace: Context
  /** Why the call is not to be made or to be ended; undefined as long as it may go on. */
  ended(): Failure | undefined
  /** Hears, at most once, that the call is to end; returns what stops listening. */
  onEnd(listener: (failure: Failure) => void): () => void
}

/** The scope of a call that is made here and now; with `inherit: false` only its own options bind it. */
export function callScope(options: CallOptions, defaultTimeoutMs: number, inherit = true): CallScope {
  const parent = inherit ? currentServerContext() : undefined
  const { signal, timeoutMs = defaultTimeoutMs } = options
  const deadlineMs = Math.min(Date.now() + timeoutMs, parent?.deadlineMs ?? Number.POSITIVE_INFINITY)
  return {
    deadlineMs,
    trace: traceContext.active(),
    ended() {
      if (signal?.aborted === true) return cancelledBy(signal)
      if (parent?.aborted !== undefined) return parent.aborted
      return Date.now() >= deadlineMs ? deadlineExceeded() : undefined
    },
    onEnd(listener) {
      const aborted = (): void => listener(cancelledBy(signal))
      signal?.addEventListener('abort', aborted, { once: true })
      const unlink = parent?.onAbort(listener)
      return () => {
        signal?.removeEventListener('abort', aborted)
        unlink?.()
      }
    },
  }
}

/** DEADLINE_EXCEEDED as the waiting side says it. */
export function deadlineExceeded(): Failure {
  return new Failure(Code.DEADLINE_EXCEEDED, 'DEADLINE_EXCEEDED', 'the deadline passed before the answer came')
}

function cancelledBy(signal: AbortSignal | undefined): Failure {
  const cause: unknown = signal?.reason
  if (cause instanceof Failure) return cause
  return new Failure(Code.CANCELLED, 'CANCELLED', 'the call was cancelled', { cause })
}
