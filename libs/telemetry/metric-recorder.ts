/** Keeps measurements in memory, for tests that assert what was measured. */
import type { Attributes } from '@opentelemetry/api'
import {
  AggregationTemporality,
  type IMetricReader,
  InMemoryMetricExporter,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics'

/** What a metric has come to under one set of labels: a number, or for a histogram its count, sum and buckets. */
export interface MetricPoint {
  readonly name: string
  readonly labels: Attributes
  readonly value: unknown
}

/** A reader for `startTelemetry({ metricReaders })`, and what it has read. */
export interface MetricRecorder {
  readonly reader: IMetricReader
  /** All points as they are now. */
  points(): Promise<readonly MetricPoint[]>
}

/** Creates a recorder. */
export function recordMetrics(): MetricRecorder {
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 })
  return {
    reader,
    points: async () => {
      exporter.reset()
      await reader.forceFlush()
      const metrics = exporter
        .getMetrics()
        .flatMap(({ scopeMetrics }) => scopeMetrics.flatMap((scope) => scope.metrics))
      return metrics.flatMap(({ descriptor, dataPoints }) =>
        dataPoints.map(({ attributes, value }) => ({ name: descriptor.name, labels: attributes, value })),
      )
    },
  }
}
