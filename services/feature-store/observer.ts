/** What is measured of writes, reads and training sets; while no telemetry runs only a look at one flag. */
import { FeatureStatus } from '@slipway/proto/slipway/features/v1/value'
import { Failure } from '@slipway/rpc'
import {
  attribute,
  meter,
  metric,
  type Span,
  SpanKind,
  SpanStatusCode,
  telemetryRuns,
  tracer,
} from '@slipway/telemetry'

const spans = tracer('slipway.feature-store')
const meters = meter('slipway.feature-store')
const rowsWritten = meters.createCounter(metric.featureRowsWritten)
const readDuration = meters.createHistogram(metric.featureReadDuration)
const statusNames = new Map<number, string>(Object.entries(FeatureStatus).map(([name, status]) => [status, name]))
const valuesRead = meters.createCounter(metric.featureValuesRead)

/** Counts rows by what became of them. */
export function countWritten(outcomes: Iterable<string>): void {
  if (!telemetryRuns()) return
  for (const [outcome, count] of countEach(outcomes)) rowsWritten.add(count, { [attribute.writeOutcome]: outcome })
}

/** Measures one online read; `service` is empty when features were asked for one by one. */
export async function observeRead<V extends { readonly statuses?: FeatureStatus[] }>(
  service: string,
  entityCount: number,
  read: () => Promise<V[]>,
): Promise<V[]> {
  if (!telemetryRuns()) return await read()
  const startedMs = performance.now()
  const labels = service === '' ? {} : { [attribute.featureService]: service }
  return await inSpan('read features', { ...labels, [attribute.entityCount]: entityCount }, async () => {
    const vectors = await read()
    const statuses = vectors.flatMap((vector) => vector.statuses ?? [])
    for (const [status, count] of countEach(statuses)) {
      valuesRead.add(count, { ...labels, [attribute.featureStatus]: statusNames.get(status) ?? '' })
    }
    readDuration.record((performance.now() - startedMs) / 1000, labels)
    return vectors
  })
}

/** Runs a part of a call in a span of its own. */
export async function inSpan<T>(
  name: string,
  attributes: Record<string, string | number>,
  part: () => Promise<T>,
): Promise<T> {
  if (!telemetryRuns()) return await part()
  return await spans.startActiveSpan(name, { kind: SpanKind.INTERNAL, attributes }, async (span: Span) => {
    try {
      return await part()
    } catch (error) {
      span.setStatus({ code: SpanStatusCode.ERROR, message: Failure.from(error).reason })
      throw error
    } finally {
      span.end()
    }
  })
}

function countEach<T>(items: Iterable<T>): Map<T, number> {
  const counts = new Map<T, number>()
  for (const item of items) counts.set(item, (counts.get(item) ?? 0) + 1)
  return counts
}
