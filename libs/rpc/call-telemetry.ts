import { type Context, propagation, ROOT_CONTEXT, type Span, trace } from '@opentelemetry/api'
import { attribute, meter, metric, SpanKind, SpanStatusCode, telemetryRuns, tracer } from '@slipway/telemetry'
import { Code, codeName } from './code.ts'
import type { Failure } from './failure.ts'

// One span and one measurement for each call, on either side. Nothing is done while no SDK runs.

const SCOPE = 'slipway.rpc'
const activeCalls = meter(SCOPE).createUpDownCounter(metric.rpcServerActive)
const serverDuration = meter(SCOPE).createHistogram(metric.rpcServerDuration)
const clientDuration = meter(SCOPE).createHistogram(metric.rpcClientDuration)
const clientRetries = meter(SCOPE).createCounter(metric.rpcClientRetries)

/** What is recorded of one call. */
export interface CallRecord {
  /** The trace context inside the call. */
  readonly context: Context
  /** Ends the record; nothing stands for OK. */
  end(failure: Failure | undefined): void
}

/** Begins to record a call that came in, under the trace that its headers name; undefined while no SDK runs. */
export function recordServerCall(method: string, header: (name: string) => string | undefined): CallRecord | undefined {
  if (!telemetryRuns()) return undefined
  const parent = propagation.extract(ROOT_CONTEXT, header, {
    get: (headers, key) => headers(key),
    keys: () => [],
  })
  const recorded = record(method, SpanKind.SERVER, parent, serverDuration)
  const labels = { [attribute.rpcSystem]: 'grpc', [attribute.rpcMethod]: method }
  activeCalls.add(1, labels)
  return {
    context: recorded.context,
    end(failure) {
      activeCalls.add(-1, labels)
      recorded.end(failure)
    },
  }
}

/** Begins to record a call that goes out, and writes its trace into the headers; undefined while no SDK runs. */
export function recordClientCall(
  method: string,
  within: Context,
  setHeader: (name: string, value: string) => void,
): CallRecord | undefined {
  if (!telemetryRuns()) return undefined
  const recorded = record(method, SpanKind.CLIENT, within, clientDuration)
  propagation.inject(recorded.context, setHeader, { set: (write, key, value) => write(key, value) })
  return recorded
}

/** Counts an attempt after the first. */
export function countRetry(method: string): void {
  if (telemetryRuns()) clientRetries.add(1, { [attribute.rpcSystem]: 'grpc', [attribute.rpcMethod]: method })
}

function record(method: string, kind: SpanKind, parent: Context, duration: typeof serverDuration): CallRecord {
  const begunMs = performance.now()
  const attributes = { [attribute.rpcSystem]: 'grpc', [attribute.rpcMethod]: method }
  const span = tracer(SCOPE).startSpan(method, { kind, attributes }, parent)
  return {
    context: trace.setSpan(parent, span),
    end(failure) {
      const status = { [attribute.rpcStatusCode]: codeName(failure?.code ?? Code.OK) }
      duration.record((performance.now() - begunMs) / 1000, { ...attributes, ...status })
      span.setAttributes(status)
      if (failure !== undefined) markFailed(span, kind, failure)
      span.end()
    },
  }
}

function markFailed(span: Span, kind: SpanKind, failure: Failure): void {
  span.setAttributes({ [attribute.errorType]: codeName(failure.code), [attribute.failureReason]: failure.reason })
  if (kind === SpanKind.CLIENT || isServersFault(failure)) span.setStatus({ code: SpanStatusCode.ERROR })
}

/** Whether a failure is the server's own doing, and not the caller's or the circumstances'. */
export function isServersFault({ code }: Failure): boolean {
  return code === Code.INTERNAL || code === Code.UNKNOWN || code === Code.DATA_LOSS
}
