import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createSpanRecorder, startTelemetry, trace, tracer } from '@slipway/telemetry'
import { afterAll, afterEach, expect, test } from 'vitest'
import type { EventBus } from './bus.ts'
import { collect } from './contract.ts'
import { openEmbeddedBus } from './embedded.ts'
import { deadLetterHeader, Poison } from './poison.ts'
import { unique } from './record.fixture.ts'
import { topics } from './topics.ts'
import { consume, encodeEvent, publishTo } from './typed.ts'

const directory = mkdtempSync(join(tmpdir(), 'slipway-typed-'))
const opened: EventBus[] = []
afterEach(async () => {
  await Promise.all(opened.splice(0).map((bus) => bus.close()))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

function open(): EventBus {
  const bus = openEmbeddedBus({ path: join(directory, `${unique('bus')}.db`) })
  opened.push(bus)
  return bus
}

const feedback = (number: number) => ({
  predictionId: `p-${number}`,
  endpoint: 'endpoints/flights',
  outcome: { case: 'label' as const, value: 1 },
})

test('messages arrive as they were published, as CloudEvents 1.0 in binary mode', async () => {
  const bus = open()
  await publishTo(bus, topics.feedback, [feedback(1), feedback(2)], { source: '/slipway/traffic-router' })
  const messages: unknown[] = []
  const subscription = await consume(bus, topics.feedback, {
    group: 'g',
    handle: async (events) => {
      messages.push(...events.map(({ message }) => message))
    },
  })
  await subscription.caughtUp()
  expect(messages).toHaveLength(2)
  expect(messages).toContainEqual(expect.objectContaining(feedback(2)))
  const raw = await collect(bus, { topics: [topics.feedback.name] })
  await raw.caughtUp()
  expect(raw.records.map((record) => record.key).toSorted()).toEqual(['p-1', 'p-2'])
  expect(raw.records[0]?.headers).toMatchObject({
    ce_specversion: '1.0',
    ce_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
    ce_source: '/slipway/traffic-router',
    ce_type: 'slipway.events.v1.FeedbackRecorded',
    ce_time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
    'content-type': 'application/protobuf',
  })
})

test('what does not decode and what the handler calls poison is parked, the rest is handled', async () => {
  const bus = open()
  const broken = { ...encodeEvent(topics.feedback, feedback(1)), key: 'p-1', value: Uint8Array.of(0xff, 0xff) }
  await bus.publish([broken, ...[2, 3, 4].map((number) => encodeEvent(topics.feedback, feedback(number)))])
  const handled = new Set<string>()
  const subscription = await consume(bus, topics.feedback, {
    group: 'g',
    handle: async (events) => {
      const bad = events.find(({ message }) => message.predictionId === 'p-3')
      if (bad !== undefined) throw new Poison('no such prediction', { record: bad.record })
      for (const { message } of events) handled.add(message.predictionId)
    },
  })
  await subscription.caughtUp()
  expect([...handled].toSorted()).toEqual(['p-2', 'p-4'])
  const parked = await collect(bus, { topics: ['slipway.feedback.v1.dead-letter'] })
  await parked.caughtUp()
  const reasons = parked.records.map((record) => [record.key, record.headers[deadLetterHeader.reason]])
  expect(reasons.toSorted()).toEqual([
    ['p-1', expect.stringMatching(/^not a slipway\.events\.v1\.FeedbackRecorded: /)],
    ['p-3', 'no such prediction'],
  ])
})

test('a trace goes on through the bus, also when its record is in a batch with others', async () => {
  const recorder = createSpanRecorder()
  const telemetry = startTelemetry({ serviceName: 'test', env: {}, spanProcessors: [recorder.processor] })
  try {
    const bus = open()
    const records = [1, 1, 1].map((number) =>
      tracer('test').startActiveSpan('publish', (span) => {
        const record = encodeEvent(topics.feedback, feedback(number))
        span.end()
        return { record, traceId: span.spanContext().traceId }
      }),
    )
    await bus.publish(records.map(({ record }) => record))
    const seen: (string | undefined)[] = []
    const subscription = await consume(bus, topics.feedback, {
      group: 'g',
      handle: async () => {
        seen.push(trace.getActiveSpan()?.spanContext().traceId)
      },
    })
    await subscription.caughtUp()
    const [first] = records
    if (first === undefined) throw new Error('nothing published')
    await bus.publish([first.record])
    await subscription.caughtUp()
    const spans = recorder.spans()
    for (const { traceId } of records) {
      const published = spans.find((span) => span.name === 'publish' && span.spanContext().traceId === traceId)
      const processed = spans.find(
        (span) => span.name === `process ${topics.feedback.name}` && span.spanContext().traceId === traceId,
      )
      expect(processed?.parentSpanContext?.spanId).toBe(published?.spanContext().spanId)
    }
    const batch = spans.find((span) => span.name === `process ${topics.feedback.name} batch`)
    expect(batch?.links.map((link) => link.context.traceId)).toEqual(records.map(({ traceId }) => traceId))
    expect(seen).toEqual([batch?.spanContext().traceId, first.traceId])
  } finally {
    await telemetry.shutdown()
  }
})
