import {
  AggregationTemporality,
  InMemoryMetricExporter,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics'
import { afterEach, describe, expect, test } from 'vitest'
import type { Telemetry } from './index.ts'
import {
  context,
  createSpanRecorder,
  extractTraceContext,
  injectTraceContext,
  logger,
  meter,
  metric,
  startTelemetry,
  telemetryRuns,
  trace,
  tracer,
} from './index.ts'

const started: Telemetry[] = []
const start = (options: Omit<Parameters<typeof startTelemetry>[0], 'serviceName'>) => {
  const telemetry = startTelemetry({ serviceName: 'slipway-test', ...options })
  started.push(telemetry)
  return telemetry
}

afterEach(async () => {
  for (const telemetry of started.splice(0)) await telemetry.shutdown()
})

describe('startTelemetry', () => {
  test.each([
    [{}],
    [
      {
        OTEL_TRACES_EXPORTER: 'none',
        OTEL_METRICS_EXPORTER: 'none',
        OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1',
      },
    ],
    [{ OTEL_SDK_DISABLED: 'true', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' }],
  ])('starts no SDK with %j', (env) => {
    start({ env })
    expect(telemetryRuns()).toBe(false)
    const span = tracer('slipway.test').startSpan('work')
    expect(span.isRecording()).toBe(false)
    const headers = {}
    injectTraceContext(headers)
    expect(headers).toEqual({})
  })

  test('a tracer from before the start records after it, and again after a restart', async () => {
    const early = tracer('slipway.test')
    for (const name of ['first', 'second']) {
      const recorder = createSpanRecorder()
      const telemetry = start({ env: {}, spanProcessors: [recorder.processor] })
      early.startActiveSpan(name, (span) => span.end())
      expect(recorder.spans().map((span) => span.name)).toEqual([name])
      expect(recorder.spans()[0]?.resource.attributes['service.name']).toBe('slipway-test')
      await telemetry.shutdown()
      expect(early.startSpan('after').isRecording()).toBe(false)
    }
  })

  test('a second start joins the first, and only the last shutdown stops', async () => {
    const recorder = createSpanRecorder()
    const first = start({ env: {}, spanProcessors: [recorder.processor] })
    const second = start({ env: {} })
    await first.shutdown()
    await first.shutdown()
    expect(telemetryRuns()).toBe(true)
    tracer('slipway.test').startSpan('still traced').end()
    expect(recorder.spans()).toHaveLength(1)
    await second.shutdown()
    expect(telemetryRuns()).toBe(false)
  })

  test('sampling follows the parent: a trace that its root did not sample is not recorded here', () => {
    const recorder = createSpanRecorder()
    start({ env: {}, spanProcessors: [recorder.processor] })
    for (const flags of ['00', '01']) {
      const parent = extractTraceContext({
        traceparent: `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-${flags}`,
      })
      tracer('slipway.test').startSpan(flags, {}, parent).end()
    }
    expect(recorder.spans().map((span) => span.name)).toEqual(['01'])
  })

  test('trace context crosses headers and awaits', async () => {
    const recorder = createSpanRecorder()
    start({ env: {}, spanProcessors: [recorder.processor] })
    const headers: Record<string, string> = {}
    await tracer('slipway.test').startActiveSpan('caller', async (span) => {
      await Promise.resolve()
      injectTraceContext(headers)
      span.end()
    })
    context.with(extractTraceContext(headers), () => tracer('slipway.test').startSpan('callee').end())
    const [caller, callee] = recorder.spans()
    expect(callee?.parentSpanContext?.spanId).toBe(caller?.spanContext().spanId)
    expect(callee?.spanContext().traceId).toBe(caller?.spanContext().traceId)
  })
})

describe('meter', () => {
  test('instruments from before the start measure after it, with unit and description of the table', async () => {
    const duration = meter('slipway.test').createHistogram(metric.rpcServerDuration)
    const open = meter('slipway.test').createObservableGauge(metric.driftIncidentsOpen)
    open.addCallback((result) => result.observe(3))
    duration.record(99)
    const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
    const reader = new PeriodicExportingMetricReader({ exporter })
    start({ env: {}, metricReaders: [reader] })
    duration.record(0.5)
    await reader.forceFlush()
    const measured = exporter.getMetrics().flatMap(({ scopeMetrics }) => scopeMetrics.flatMap(({ metrics }) => metrics))
    const histogram = measured.find(({ descriptor }) => descriptor.name === metric.rpcServerDuration)
    expect(histogram?.descriptor).toMatchObject({
      unit: 's',
      description: 'From the first byte of a call to its status',
    })
    expect(histogram?.dataPoints[0]?.value).toMatchObject({ count: 1, sum: 0.5 })
    expect(measured.find(({ descriptor }) => descriptor.name === metric.driftIncidentsOpen)?.dataPoints[0]?.value).toBe(
      3,
    )
  })
})

describe('logger', () => {
  const lines: Record<string, unknown>[] = []
  const writeLog = (line: string) => {
    lines.push(JSON.parse(line) as Record<string, unknown>)
  }
  afterEach(() => {
    lines.length = 0
  })

  test('a line carries fields, the error with its causes, and the trace that it was written in', () => {
    const recorder = createSpanRecorder()
    start({ env: {}, spanProcessors: [recorder.processor], writeLog })
    const error = new Error('cannot load', { cause: new TypeError('bad digest') })
    tracer('slipway.test').startActiveSpan('load', (span) => {
      logger('slipway.test').error('model not loaded', { model: 'flights', revision: 7n, error })
      span.end()
    })
    const span = recorder.spans()[0]?.spanContext()
    expect(lines).toEqual([
      expect.objectContaining({
        level: 'error',
        scope: 'slipway.test',
        message: 'model not loaded',
        model: 'flights',
        revision: '7',
        trace_id: span?.traceId,
        span_id: span?.spanId,
        error: expect.objectContaining({
          name: 'Error',
          message: 'cannot load',
          cause: expect.objectContaining({ name: 'TypeError', message: 'bad digest' }),
        }),
      }),
    ])
    expect(trace.getActiveSpan()).toBeUndefined()
  })

  test('SLIPWAY_LOG_LEVEL says from which severity on lines are written', () => {
    start({ env: { SLIPWAY_LOG_LEVEL: 'warn' }, writeLog })
    logger('slipway.test').info('quiet')
    logger('slipway.test').warn('heard')
    expect(lines.map((line) => line.message)).toEqual(['heard'])
  })
})
