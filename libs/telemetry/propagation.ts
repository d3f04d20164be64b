/** Trace context in headers, by the propagators that `OTEL_PROPAGATORS` names (W3C Trace Context and Baggage). */

import type { Context } from '@opentelemetry/api'
import { context, propagation } from '@opentelemetry/api'

/** Writes the active trace context into headers; writes nothing when no SDK runs. */
export function injectTraceContext(headers: Record<string, string>): void {
  propagation.inject(context.active(), headers)
}

/** The active context, as a child of the trace that the headers name, if they name one. */
export function extractTraceContext(headers: Readonly<Record<string, string>>): Context {
  return propagation.extract(context.active(), headers)
}
