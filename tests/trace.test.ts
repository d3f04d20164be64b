import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from '@slipway/client'
import { startInProcess } from '@slipway/standalone/in-process'
import { attribute, createSpanRecorder, startTelemetry } from '@slipway/telemetry'
import { expect, test, vi } from 'vitest'
import { deployModel, predictOnce } from './deployed-model.fixture.ts'
import { freePortBase } from './ports.fixture.ts'

test('one trace covers router, feature-store, inference and, through the bus, drift-monitor', async () => {
  const recorder = createSpanRecorder()
  const telemetry = startTelemetry({ serviceName: 'test', env: {}, spanProcessors: [recorder.processor] })
  const dataDir = await mkdtemp(join(tmpdir(), 'slipway-trace-'))
  const system = await startInProcess({
    dataDir,
    portBase: await freePortBase(),
    kafka: undefined,
    environment: {},
    notice: () => {},
  })
  const slipway = connect({
    addresses: {
      registry: system.addresses.registry,
      featureStore: system.addresses['feature-store'],
      inference: system.addresses.inference,
      trafficRouter: system.addresses['traffic-router'],
      driftMonitor: system.addresses['drift-monitor'],
    },
  })
  try {
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
  } finally {
    slipway.close()
    await system.stop()
    await telemetry.shutdown()
    await rm(dataDir, { recursive: true, force: true })
  }
})
