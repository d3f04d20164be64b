/** Spans of the hot path: next to nothing while no telemetry runs. */

import type { Failure } from '@slipway/rpc'
import {
  type Attributes,
  type Context,
  context,
  extractTraceContext,
  injectTraceContext,
  type Span,
  SpanKind,
  SpanStatusCode,
  telemetryRuns,
  trace,
  tracer,
} from '@slipway/telemetry'

/** The span of one request and what goes on with it to others. */
export interface RequestTrace {
  readonly span: Span
  readonly context: Context
  /** The headers of calls on behalf of the request. */
  readonly headers: Readonly<Record<string, string>>
}

const spans = tracer('slipway.traffic-router')
const PROPAGATED = ['traceparent', 'tracestate', 'baggage'] as const

/** Starts the span of a request below the caller's trace; undefined while no telemetry runs. */
export function startRequestTrace(
  name: string,
  header: (name: string) => string | undefined,
  attributes: Attributes,
): RequestTrace | undefined {
  if (!telemetryRuns()) return undefined
  const incoming: Record<string, string> = {}
  for (const each of PROPAGATED) {
    const value = header(each)
    if (value !== undefined) incoming[each] = value
  }
  const parent = trace.getActiveSpan() === undefined ? extractTraceContext(incoming) : context.active()
  const span = spans.startSpan(name, { kind: SpanKind.INTERNAL, attributes }, parent)
  const inside = trace.setSpan(parent, span)
  const headers: Record<string, string> = {}
  context.with(inside, () => injectTraceContext(headers))
  return { span, context: inside, headers }
}

/** Ends the span of a request. */
export function endRequestTrace(requestTrace: RequestTrace | undefined, failure: Failure | undefined): void {
  if (requestTrace === undefined) return
  if (failure !== undefined) requestTrace.span.setStatus({ code: SpanStatusCode.ERROR, message: failure.reason })
  requestTrace.span.end()
}

/** Runs a part of a request so that calls that it makes belong to its trace. */
export function insideTrace<T>(requestTrace: RequestTrace | undefined, part: () => T): T {
  return requestTrace === undefined ? part() : context.with(requestTrace.context, part)
}
