import { identityModel } from '@slipway/onnx'
import { attribute, createSpanRecorder, logger, startTelemetry } from '@slipway/telemetry'
import { expect, test } from 'vitest'
import { ModelTable } from './model-table.ts'
import { createObserver } from './observer.ts'
import { serve } from './testing.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'

test('a prediction is a span below its call, with its stages below it, in the trace that the request names', async () => {
  const recorder = createSpanRecorder()
  const env = { OTEL_TRACES_SAMPLER: 'parentbased_always_on' }
  const telemetry = startTelemetry({ serviceName: 'test', env, spanProcessors: [recorder.processor] })
  const observer = createObserver(logger('test'), new ModelTable())
  const server = await serve([{ model: 'm', bytes: identityModel('UINT8') }], observer)
  const request = {
    modelName: 'm',
    inputs: [{ name: 'input', datatype: 'UINT8', shape: [2n] }],
    rawInputContents: [Buffer.of(1, 2)],
  }
  const traceparent = { parameterChoice: { case: 'stringParam' as const, value: `00-${TRACE}-b7ad6b7169203331-01` } }
  await server.client.modelInfer(request)
  await server.client.modelInfer({ ...request, parameters: { traceparent } })
  await server.stop()
  observer.stop()
  const spans = recorder.spans()
  const predictions = spans.filter(({ name }) => name === 'inference.predict')
  expect(predictions).toHaveLength(2)
  for (const prediction of predictions) {
    const { spanId } = prediction.spanContext()
    const stages = spans.filter(({ parentSpanContext }) => parentSpanContext?.spanId === spanId)
    expect(stages.map(({ name }) => name)).toEqual(['inference.queue', 'inference.execute'])
    expect(stages[1]?.attributes).toMatchObject({ [attribute.batchRows]: 2 })
    expect(prediction.attributes).toMatchObject({ [attribute.model]: 'm', [attribute.modelVersion]: '1' })
  }
  const [first, second] = predictions
  const calls = spans.map((span) => span.spanContext().spanId)
  expect(calls).toContain(first?.parentSpanContext?.spanId)
  expect(second?.spanContext().traceId).toBe(TRACE)
  await telemetry.shutdown()
})
