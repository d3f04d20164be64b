import { identityModel } from '@slipway/onnx'
import { attribute, createSpanRecorder, logger, SpanKind, startTelemetry } from '@slipway/telemetry'
import { expect, test } from 'vitest'
import { ModelTable } from '../model-table.ts'
import { createObserver } from '../observer.ts'
import { eventually, serveHttp } from './http-server.fixture.ts'

test('a call over HTTP is a span in the trace that its header names, with the prediction below it', async () => {
  const recorder = createSpanRecorder()
  const env = { OTEL_TRACES_SAMPLER: 'parentbased_always_on' }
  const telemetry = startTelemetry({ serviceName: 'test', env, spanProcessors: [recorder.processor] })
  const observer = createObserver(logger('test'), new ModelTable())
  const server = await serveHttp([{ model: 'm', bytes: identityModel('FP32') }], observer)
  try {
    const traceId = '0af7651916cd43dd8448eb211c80319c'
    const inputs = [{ name: 'input', datatype: 'FP32', shape: [1], data: [123.5] }]
    const headers = { traceparent: `00-${traceId}-b7ad6b7169203331-01` }
    expect(await server.post('/v2/models/m/infer', { inputs }, headers)).toMatchObject({ status: 200 })
    const named = (name: string) => recorder.spans().find((span) => span.name === name)
    await eventually(() => named('inference.predict')).toBeDefined()
    const call = named('inference.GRPCInferenceService/ModelInfer')
    expect(call).toMatchObject({
      kind: SpanKind.SERVER,
      attributes: { [attribute.rpcSystem]: 'http', [attribute.rpcStatusCode]: 'OK' },
      parentSpanContext: { spanId: 'b7ad6b7169203331' },
    })
    expect(call?.spanContext().traceId).toBe(traceId)
    expect(named('inference.predict')?.parentSpanContext?.spanId).toBe(call?.spanContext().spanId)
    expect(JSON.stringify(recorder.spans().map(({ attributes }) => attributes))).not.toContain('123.5')
    expect(await server.get('/v2/models/nope')).toMatchObject({ status: 404 })
    expect(named('inference.GRPCInferenceService/ModelMetadata')?.attributes).toMatchObject({
      [attribute.rpcStatusCode]: 'NOT_FOUND',
      [attribute.failureReason]: 'UNKNOWN_MODEL',
    })
  } finally {
    await server.stop()
    observer.stop()
    await telemetry.shutdown()
  }
})
