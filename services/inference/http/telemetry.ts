/** One span and one measurement for each call over HTTP, as for those over gRPC; nothing is done while no SDK runs. */
import { GRPCInferenceService } from '@slipway/proto/inference/grpc_service'
import { Code, codeName, type Failure } from '@slipway/rpc'
import {
  attribute,
  type Context,
  extractTraceContext,
  meter,
  metric,
  SpanKind,
  SpanStatusCode,
  telemetryRuns,
  trace,
  tracer,
} from '@slipway/telemetry'

const SCOPE = 'slipway.inference'
const duration = meter(SCOPE).createHistogram(metric.rpcServerDuration)

/** What is recorded of one call. */
export interface HttpCallRecord {
  /** The trace context inside the call. */
  readonly context: Context
  /** Ends the record; nothing stands for OK. */
  end(failure: Failure | undefined): void
}

/** Begins to record a call, in the trace that its headers name. */
export function recordHttpCall(call: string, header: (name: string) => string | undefined): HttpCallRecord | undefined {
  if (!telemetryRuns()) return undefined
  const begunMs = performance.now()
  const method = `${GRPCInferenceService.typeName}/${call}`
  const attributes = { [attribute.rpcSystem]: 'http', [attribute.rpcMethod]: method }
  const parent = extractTraceContext({
    traceparent: header('traceparent') ?? '',
    tracestate: header('tracestate') ?? '',
  })
  const span = tracer(SCOPE).startSpan(method, { kind: SpanKind.SERVER, attributes }, parent)
  return {
    context: trace.setSpan(parent, span),
    end(failure) {
      const status = { [attribute.rpcStatusCode]: codeName(failure?.code ?? Code.OK) }
      duration.record((performance.now() - begunMs) / 1000, { ...attributes, ...status })
      span.setAttributes(status)
      if (failure !== undefined) {
        span.setAttributes({ [attribute.errorType]: codeName(failure.code), [attribute.failureReason]: failure.reason })
        if (isServersFault(failure)) span.setStatus({ code: SpanStatusCode.ERROR })
      }
      span.end()
    },
  }
}

/** Whether a failure is the server's own doing. */
export function isServersFault({ code }: Failure): boolean {
  return code === Code.INTERNAL || code === Code.UNKNOWN || code === Code.DATA_LOSS
}
