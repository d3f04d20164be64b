/** Trace context on its way through the bus: written by the publisher, continued around the handler. */
import { type Context, type Link, type Span, SpanKind, SpanStatusCode, TraceFlags, trace } from '@opentelemetry/api'
import { attribute, context, extractTraceContext, telemetryRuns, tracer } from '@slipway/telemetry'
import type { ReceivedRecord } from './bus.ts'

const spans = tracer('slipway.events')
const maxTracedRecords = 128

/**
 * Runs a handler so that the traces of its records go on. Each sampled record gets a consumer span in its own trace; the
 * handler runs inside it when it is the only one, otherwise inside a span of the batch that is linked to them all.
 */
export async function inConsumerSpan(
  batch: readonly ReceivedRecord[],
  group: string,
  handle: () => Promise<void>,
): Promise<void> {
  if (!telemetryRuns()) return await handle()
  const started = startRecordSpans(batch, group)
  const [only] = started
  if (only === undefined) return await handle()
  const links: Link[] = started.map(({ span }) => ({ context: span.spanContext() }))
  const batchSpan =
    started.length === 1
      ? undefined
      : spans.startSpan(`process ${batch[0]?.topic} batch`, {
          kind: SpanKind.CONSUMER,
          root: true,
          links,
          attributes: { ...describe(batch[0], group), [attribute.messagingBatchSize]: batch.length },
        })
  const within = batchSpan === undefined ? only.context : trace.setSpan(context.active(), batchSpan)
  const all = [...started.map(({ span }) => span), ...(batchSpan === undefined ? [] : [batchSpan])]
  try {
    await context.with(within, handle)
  } catch (error) {
    for (const span of all) span.setStatus({ code: SpanStatusCode.ERROR, message: String(error) })
    throw error
  } finally {
    for (const span of all) span.end()
  }
}

function startRecordSpans(batch: readonly ReceivedRecord[], group: string): { span: Span; context: Context }[] {
  const started: { span: Span; context: Context }[] = []
  for (const record of batch) {
    if (started.length === maxTracedRecords) break
    if (record.headers.traceparent === undefined) continue
    const parent = extractTraceContext(record.headers)
    const remote = trace.getSpanContext(parent)
    if (remote === undefined || (remote.traceFlags & TraceFlags.SAMPLED) === 0) continue
    const span = spans.startSpan(
      `process ${record.topic}`,
      { kind: SpanKind.CONSUMER, attributes: describe(record, group) },
      parent,
    )
    started.push({ span, context: trace.setSpan(parent, span) })
  }
  return started
}

function describe(record: ReceivedRecord | undefined, group: string): Record<string, string> {
  return {
    [attribute.messagingOperation]: 'process',
    [attribute.messagingDestination]: record?.topic ?? '',
    [attribute.messagingPartition]: String(record?.partition ?? ''),
    [attribute.messagingGroup]: group,
  }
}
