import {
  AggregationTemporality,
  InMemoryMetricExporter,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics'
import { attribute, createSpanRecorder, metric, startTelemetry } from '@slipway/telemetry'
import { expect, test } from 'vitest'
import { createTrainingSet, defineTraffic, startTestStore, trafficRow, uploadSpineOf, value } from './store.fixture.ts'

test('reads and joins are spans that name the feature service and never a value or a key', async () => {
  const recorder = createSpanRecorder()
  const telemetry = startTelemetry({ serviceName: 'test', env: {}, spanProcessors: [recorder.processor] })
  const store = await startTestStore()
  await defineTraffic(store)
  await store.client.writeFeatures({ rows: [trafficRow('SEATTLE', 1, { flights: 4711n })] })
  await store.client.getOnlineFeatures({
    selection: { case: 'featureService', value: 'featureServices/late' },
    entityRows: [{ keys: { origin: value.text('SEATTLE') } }],
  })
  const spineDigest = await uploadSpineOf(store, [['SEATTLE', 2]])
  await createTrainingSet(store, { spineDigest, featureService: 'featureServices/late' })
  const named = (name: string) => recorder.spans().find((span) => span.name === name)
  expect(named('read features')?.attributes).toEqual({
    [attribute.featureService]: 'featureServices/late',
    [attribute.entityCount]: 1,
  })
  expect(named('join training set')?.attributes).toEqual({ [attribute.featureService]: 'featureServices/late' })
  const call = recorder.spans().find((span) => span.name.endsWith('GetOnlineFeatures') && span.kind === 1)
  expect(named('read features')?.parentSpanContext?.spanId).toBe(call?.spanContext().spanId)
  const written = JSON.stringify(recorder.spans().map((span) => span.attributes))
  expect(written).not.toContain('SEATTLE')
  expect(written).not.toContain('4711')
  await store.stop()
  await telemetry.shutdown()
})

test('rows are counted by outcome and values by status, and reads are timed', async () => {
  const measured = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const reader = new PeriodicExportingMetricReader({ exporter: measured, exportIntervalMillis: 3_600_000 })
  const telemetry = startTelemetry({ serviceName: 'test', env: {}, metricReaders: [reader] })
  const store = await startTestStore()
  await defineTraffic(store)
  const row = trafficRow('SEA', 1, { flights: 1n })
  await store.client.writeFeatures({ rows: [row, row, { ...row, entityKeys: {} }] })
  await store.client.getOnlineFeatures({
    selection: { case: 'featureService', value: 'featureServices/late' },
    entityRows: ['SEA', 'SFO'].map((origin) => ({ keys: { origin: value.text(origin) } })),
  })
  await reader.forceFlush()
  const points = (name: string, label: string) => {
    const all = measured.getMetrics().flatMap(({ scopeMetrics }) => scopeMetrics.flatMap(({ metrics }) => metrics))
    const found = all.filter(({ descriptor }) => descriptor.name === name).at(-1)?.dataPoints ?? []
    return Object.fromEntries(found.map((point) => [String(point.attributes[label]), point.value]))
  }
  expect(points(metric.featureRowsWritten, attribute.writeOutcome)).toEqual({ applied: 1, duplicate: 1, rejected: 1 })
  expect(points(metric.featureValuesRead, attribute.featureStatus)).toEqual({
    PRESENT: 1,
    NULL_VALUE: 1,
    NOT_FOUND: 2,
  })
  expect(points(metric.featureReadDuration, attribute.featureService)).toMatchObject({
    'featureServices/late': { count: 1 },
  })
  await store.stop()
  await telemetry.shutdown()
})
