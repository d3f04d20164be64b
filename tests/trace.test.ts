import { attribute, createSpanRecorder, startTelemetry } from '@slipway/telemetry'
import { expect, onTestFinished, test, vi } from 'vitest'
import { deployModel, predictOnce } from './deployed-model.fixture.ts'
import { withSystem } from './in-process.fixture.ts'

test('one trace covers router, feature-store, inference and, through the bus, drift-monitor', async () => {
  const recorder = createSpanRecorder()
  const telemetry = startTelemetry({ serviceName: 'test', env: {}, spanProcessors: [recorder.processor] })
  onTestFinished(() => telemetry.shutdown())
  await withSystem(async ({ slipway }) => {
    const version = await deployModel(slipway)
    recorder.clear()
    const prediction = await predictOnce(slipway, 'prediction-traced')
    expect(prediction).toMatchObject({ digest: version.digest, modelVersion: version.name, missingFeatures: {} })

    const traceOf = () => {
      const spans = recorder.spans()
      const root = spans.find(({ name }) => name.includes('PredictionService/Predict'))
      return spans.filter((span) => span.spanContext().traceId === root?.spanContext().traceId)
    }
    const consumer = () =>
      traceOf().find((span) => span.attributes[attribute.messagingGroup]?.toString().includes('drift'))
    await vi.waitFor(() => expect(consumer()).toBeDefined(), { timeout: 15_000 })

    const spans = traceOf()
    const scopes = new Set(spans.map((span) => span.instrumentationScope.name))
    expect([...scopes]).toEqual(expect.arrayContaining(['slipway.rpc', 'slipway.traffic-router', 'slipway.inference']))
    expect(spans.map(({ name }) => name).join('\n')).toContain('FeatureStoreService/GetOnlineFeatures')
    const ids = new Set(spans.map((span) => span.spanContext().spanId))
    const roots = spans.filter((span) => !ids.has(span.parentSpanContext?.spanId ?? ''))
    expect(roots, 'every span but the first has its parent in the trace').toHaveLength(1)
  })
})
