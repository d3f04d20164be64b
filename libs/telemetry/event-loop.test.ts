import { setTimeout as sleep } from 'node:timers/promises'
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics'
import { expect, test } from 'vitest'
import { EventLoopWatch } from './event-loop.ts'
import { metric, startTelemetry } from './index.ts'

function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

test('an event loop that was held up is told of once', async () => {
  const watch = new EventLoopWatch()
  await sleep(50)
  watch.take()
  await sleep(50)
  block(300)
  await sleep(50)
  const { p50, max } = watch.take()
  expect(max).toBeGreaterThan(0.25)
  expect(p50).toBeLessThan(max)
  await sleep(50)
  expect(watch.take().max).toBeLessThan(0.25)
  watch.stop()
})

test('a process whose telemetry runs exports the delay of its event loop', async () => {
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const reader = new PeriodicExportingMetricReader({ exporter })
  const telemetry = startTelemetry({ serviceName: 'test', env: {}, metricReaders: [reader] })
  await sleep(30)
  block(200)
  await sleep(30)
  await reader.forceFlush()
  const measured = exporter.getMetrics().flatMap(({ scopeMetrics }) => scopeMetrics.flatMap(({ metrics }) => metrics))
  const max = measured.find(({ descriptor }) => descriptor.name === metric.eventLoopDelayMax)
  expect(max?.dataPoints[0]?.value).toBeGreaterThan(0.1)
  await telemetry.shutdown()
})
