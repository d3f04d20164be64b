import { identityModel } from '@slipway/onnx'
import {
  attribute,
  createSpanRecorder,
  logger,
  metric,
  recordMetrics,
  startTelemetry,
  type Telemetry,
} from '@slipway/telemetry'
import { afterEach, describe, expect, test } from 'vitest'
import { misdeed } from './executors/test-workers/fragile-session.fixture.ts'
import { createThreadExecutor } from './executors/thread-executor.ts'
import { ModelTable } from './model-table.ts'
import { createObserver, type Observer } from './observer.ts'
import type { Servable } from './servable.ts'
import { serve, type TestServer } from './testing.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const model = { model: 'm', bytes: identityModel('UINT8') }
let telemetry: Telemetry | undefined
let observer: Observer | undefined
let server: TestServer | undefined

afterEach(async () => {
  await server?.stop()
  observer?.stop()
  await telemetry?.shutdown()
  server = undefined
})

function requestOf(value: number, traceparent?: string) {
  return {
    modelName: 'm',
    inputs: [{ name: 'input', datatype: 'UINT8', shape: [2n] }],
    rawInputContents: [Buffer.of(1, value)],
    ...(traceparent && {
      parameters: { traceparent: { parameterChoice: { case: 'stringParam' as const, value: traceparent } } },
    }),
  }
}

describe('a prediction is traced', () => {
  async function open() {
    const recorder = createSpanRecorder()
    const env = { OTEL_TRACES_SAMPLER: 'parentbased_always_on' }
    telemetry = startTelemetry({ serviceName: 'test', env, spanProcessors: [recorder.processor] })
    observer = createObserver(logger('test'), new ModelTable())
    server = await serve([model], observer)
    return { client: server.client, recorder }
  }

  test('as a span below its call, with its stages below it, in the trace that the request names', async () => {
    const { client, recorder } = await open()
    await client.modelInfer(requestOf(2))
    await client.modelInfer(requestOf(2, `00-${TRACE}-b7ad6b7169203331-01`))
    const spans = recorder.spans()
    const predictions = spans.filter(({ name }) => name === 'inference.predict')
    expect(predictions).toHaveLength(2)
    for (const prediction of predictions) {
      const { spanId } = prediction.spanContext()
      const stages = spans.filter(({ parentSpanContext }) => parentSpanContext?.spanId === spanId)
      expect(stages.map(({ name }) => name)).toEqual(['inference.queue', 'inference.execute', 'inference.serialise'])
      expect(stages[1]?.attributes).toMatchObject({ [attribute.batchRows]: 2, [attribute.batchReason]: 'idle' })
      expect(prediction.attributes).toMatchObject({ [attribute.model]: 'm', [attribute.modelVersion]: '1' })
      for (const [index, stage] of stages.entries()) {
        expect(stage.startTime).toEqual(index === 0 ? prediction.startTime : stages[index - 1]?.endTime)
      }
    }
    const [first, second] = predictions
    const calls = spans.map((span) => span.spanContext().spanId)
    expect(calls).toContain(first?.parentSpanContext?.spanId)
    expect(second?.spanContext().traceId).toBe(TRACE)
  })

  test('nowhere, when its caller has not sampled the trace', async () => {
    const { client, recorder } = await open()
    await client.modelInfer(requestOf(2, `00-${TRACE}-b7ad6b7169203331-00`))
    const ours = /^inference\.(predict|queue|execute|serialise)$/
    expect(recorder.spans().map(({ name }) => name)).not.toContainEqual(expect.stringMatching(ours))
  })
})

test('stages and requests are measured by what became of them', async () => {
  const { reader, points } = recordMetrics()
  telemetry = startTelemetry({ serviceName: 'test', env: {}, metricReaders: [reader] })
  observer = createObserver(logger('test'), new ModelTable())
  const script = new URL('./executors/test-workers/fragile.ts', import.meta.url)
  server = await serve([model], { ...observer, startExecutor: createThreadExecutor(script) })
  const { client } = server
  await client.modelInfer(requestOf(2))
  for (const value of [misdeed.refuse, misdeed.throw]) await client.modelInfer(requestOf(value)).catch(() => undefined)
  await client.modelInfer(requestOf(2))
  const found = await points()
  const requests = found.filter(({ name }) => name === metric.inferenceRequests)
  const counts = Object.fromEntries(requests.map(({ labels, value }) => [labels[attribute.outcome], value]))
  // A version answers a few requests of its own before it is ready.
  expect(counts).toMatchObject({ failed: 1, died: 1 })
  expect(counts.answered).toBeGreaterThanOrEqual(2)
  for (const stage of [
    metric.inferenceQueueDuration,
    metric.inferenceBatchWaitDuration,
    metric.inferenceExecuteDuration,
    metric.inferenceSerialiseDuration,
  ]) {
    const point = found.find(({ name, labels }) => name === stage && labels[attribute.outcome] === 'answered')
    expect(point?.labels).toMatchObject({ [attribute.model]: 'm', [attribute.modelVersion]: '1' })
    expect(point?.value).toMatchObject({ count: counts.answered })
  }
  const deaths = found.filter(({ name }) => name === metric.inferenceExecutorDeaths)
  expect(deaths).toMatchObject([{ value: 1, labels: { [attribute.outcome]: 'restarted' } }])
})

test('a thousand models are measured under a bounded number of labels; places become free when versions go', async () => {
  const { reader, points } = recordMetrics()
  telemetry = startTelemetry({ serviceName: 'test', env: {}, metricReaders: [reader] })
  const models = new ModelTable()
  observer = createObserver(logger('test'), models, 50)
  const { onBatch } = observer
  const measure = (index: number): void => {
    const served = fakeVersion(index)
    models.set(served.model, served.number, { kind: 'ready', served, readyTimeMs: 0 })
    onBatch(served as never, fakeBatch as never, { outputs: [], computeMicros: 1 })
  }
  for (let index = 0; index < 1000; index++) measure(index)
  const found = await points()
  for (const name of [metric.inferenceRequests, metric.inferenceQueueLength, metric.inferenceModelMemory]) {
    const labelled = found.filter((point) => point.name === name)
    expect(labelled).toHaveLength(51)
    expect(labelled.reduce((sum, { value }) => sum + Number(value), 0)).toBe(1000)
    expect(labelled.find(({ labels }) => labels[attribute.model] === 'other')?.value).toBe(950)
  }
  models.set('m7', '1', undefined)
  measure(1000)
  const labels = (await points()).map((point) => point.labels[attribute.model])
  expect(labels).toContain('m1000')
})

test('without an SDK nothing is looked at', () => {
  observer = createObserver(logger('test'), new ModelTable())
  const untouchable = new Proxy({}, { get: () => expect.unreachable('nobody measures') })
  observer.onBatch(untouchable as never, untouchable as never, untouchable as never)
  observer.onFailed(untouchable as never, untouchable as never, { reason: '' } as never)
})

function fakeVersion(index: number): Servable {
  const model = `m${index}`
  return { name: `models/${model}/versions/1`, model, number: '1', counts: { queued: 1 }, memoryBytes: 1 } as Servable
}

const fakeBatch = { members: [{ arrivedMs: 0 }], dispatchedMs: 0, rows: 1, reason: 'idle', notAfterMs: 0 }
