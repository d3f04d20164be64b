import { attribute, createSpanRecorder, startTelemetry } from '@slipway/telemetry'
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
