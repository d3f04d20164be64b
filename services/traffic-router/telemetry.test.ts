import {
  attribute,
  context,
  createSpanRecorder,
  extractTraceContext,
  startTelemetry,
  type Telemetry,
} from '@slipway/telemetry'
import { afterEach, expect, test } from 'vitest'
import { startTestRouter, type TestRouter } from './router.fixture.ts'

let router: TestRouter
let telemetry: Telemetry
afterEach(async () => {
  await router.stop()
  await telemetry.shutdown()
})

const double = (value: number) => ({ kind: { case: 'doubleValue' as const, value } })

test('one trace goes from the caller through the router to feature store and inference', async () => {
  const recorder = createSpanRecorder()
  telemetry = startTelemetry({ serviceName: 'test', env: {}, spanProcessors: [recorder.processor] })
  router = await startTestRouter()
  const name = 'endpoints/flight-delay'
  const variants = [{ name: 'champion', target: 'models/flights/versions/1', weightBasisPoints: 10_000 }]
  await router.routing.createEndpoint({ endpoint: { name, variants } })
  const traceId = '0af7651916cd43dd8448eb211c80319c'
  const instance = {
    features: { distance: double(1) },
    entityKeys: { route: { kind: { case: 'stringValue' as const, value: 'SEA-SFO' } } },
    predictionId: 'flight-0001',
  }
  const caller = extractTraceContext({ traceparent: `00-${traceId}-b7ad6b7169203331-01` })
  await context.with(caller, async () => await router.predictions.predict({ endpoint: name, instances: [instance] }))
  const ours = () => recorder.spans().filter((span) => span.spanContext().traceId === traceId)
  await expect.poll(() => ours().some((span) => span.name === 'predict')).toBe(true)
  const span = ours().find((each) => each.name === 'predict')
  expect(span?.attributes).toMatchObject({
    [attribute.predictionId]: 'flight-0001',
    [attribute.variant]: 'champion',
    [attribute.modelVersion]: 'models/flights/versions/1',
  })
  expect(router.featureStore.traceparents.at(-1)).toContain(traceId)
  expect(router.inference.traceparents.at(-1)).toContain(`${traceId}-${span?.spanContext().spanId}`)
  expect(JSON.stringify(ours().map((each) => each.attributes))).not.toContain('SEA-SFO')
})
