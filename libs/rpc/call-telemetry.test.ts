import {
  AggregationTemporality,
  InMemoryMetricExporter,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics'
import { EchoService } from '@slipway/proto/slipway/testing/v1/echo'
import { createSpanRecorder, startTelemetry, trace } from '@slipway/telemetry'
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { Code } from './code.ts'
import { all, allHot, echoHandlers, serveEcho, texts } from './echo.fixture.ts'
import { Failure } from './failure.ts'
import { implementRawStream, implementRawUnary } from './raw.ts'
import { openRawChannel } from './raw-client.ts'

const recorder = createSpanRecorder()
const measured = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
const reader = new PeriodicExportingMetricReader({ exporter: measured, exportIntervalMillis: 3_600_000 })
let telemetry: ReturnType<typeof startTelemetry>
beforeAll(() => {
  const spanProcessors = [recorder.processor]
  telemetry = startTelemetry({ serviceName: 'rpc-test', env: {}, spanProcessors, metricReaders: [reader] })
})
afterAll(() => telemetry.shutdown())
beforeEach(() => recorder.clear())

const method = (name: string): string => `slipway.testing.v1.EchoService/${name}`
const CLIENT = 2
const SERVER = 1

/** Ended spans; a server's span may end a moment after its caller has the answer. */
async function spans(count: number) {
  while (recorder.spans().length < count) await new Promise((resolve) => setTimeout(resolve, 1))
  return recorder.spans()
}

describe.each([
  ['grpc-js', {}],
  ['the lean path', allHot],
])('a call on %s', (_transport, hot) => {
  it('is one trace: the span of the caller is the parent of the span of the server, through every hop', async () => {
    const back = await serveEcho(echoHandlers, hot)
    const front = await serveEcho({ echo: ({ text }) => back.client.echo({ text }) }, hot)
    await front.client.echo({ text: 'x' })
    const ended = await spans(4)
    expect(new Set(ended.map((span) => span.spanContext().traceId)).size).toBe(1)
    const chain = [ended.find(({ parentSpanContext }) => parentSpanContext === undefined)]
    while (chain.length < 4) {
      const last = chain.at(-1)?.spanContext().spanId
      chain.push(ended.find(({ parentSpanContext }) => parentSpanContext?.spanId === last))
    }
    expect(chain.map((span) => [span?.kind, span?.name])).toEqual([
      [CLIENT, method('Echo')],
      [SERVER, method('Echo')],
      [CLIENT, method('Echo')],
      [SERVER, method('Echo')],
    ])
  })

  it('is traced in all four kinds', async () => {
    const { client } = await serveEcho(echoHandlers, hot)
    await all(client.count({ count: 2 }))
    await client.collect(texts('a'))
    await all(client.chat(texts('b')))
    const names = (await spans(6)).map(({ name }) => name).sort()
    expect(names).toEqual(['Chat', 'Chat', 'Collect', 'Collect', 'Count', 'Count'].map(method))
  })

  it('says how it failed', async () => {
    const { client } = await serveEcho(
      { echo: () => Promise.reject(new Failure(Code.NOT_FOUND, 'NO_MODEL', 'no')) },
      hot,
    )
    await expect(client.echo({})).rejects.toThrow()
    for (const { attributes } of await spans(2)) {
      expect(attributes).toMatchObject({
        'rpc.method': method('Echo'),
        'rpc.response.status_code': 'NOT_FOUND',
        'slipway.failure.reason': 'NO_MODEL',
      })
    }
  })
})

it('every call is measured on both sides, by method and status', async () => {
  const { client } = await serveEcho({
    echo: async ({ text }) => {
      if (text === 'fail') throw new Failure(Code.NOT_FOUND, 'NO_MODEL', 'no')
      return { text }
    },
    // biome-ignore lint/correctness/useYield: it fails before it yields
    async *count() {
      throw new Failure(Code.DATA_LOSS, 'LOST', 'lost')
    },
  })
  await client.echo({})
  await expect(client.echo({ text: 'fail' })).rejects.toThrow()
  await expect(all(client.count({}))).rejects.toThrow()
  await spans(6)
  await reader.forceFlush()
  const metrics =
    measured
      .getMetrics()
      .at(-1)
      ?.scopeMetrics.flatMap((scope) => scope.metrics) ?? []
  const points = (name: string) => metrics.find(({ descriptor }) => descriptor.name === name)?.dataPoints ?? []
  for (const name of ['rpc.server.call.duration', 'rpc.client.call.duration']) {
    const labels = points(name).map(({ attributes }) => [
      attributes['rpc.method'],
      attributes['rpc.response.status_code'],
    ])
    expect(labels).toContainEqual([method('Echo'), 'OK'])
    expect(labels).toContainEqual([method('Echo'), 'NOT_FOUND'])
    expect(labels).toContainEqual([method('Count'), 'DATA_LOSS'])
  }
  for (const { value } of points('slipway.rpc.server.active_calls')) expect(value).toBe(0)
  expect(points('slipway.rpc.server.active_calls').length).toBeGreaterThan(0)
})

it('raw handlers run inside the span of their call, however late', async () => {
  const { echo, chat } = EchoService.method
  const active: (string | undefined)[] = []
  const note = (): void => void active.push(trace.getActiveSpan()?.spanContext().spanId)
  const { address } = await serveEcho(
    {},
    {
      implementations: [
        implementRawUnary(echo, (request, call) => {
          note()
          setImmediate(() => {
            note()
            call.answer(request)
          })
        }),
        implementRawStream(chat, (stream) => {
          stream.onMessage((message) => {
            note()
            stream.write(message)
          })
          stream.onEnd(() => stream.end())
        }),
      ],
    },
  )
  const channel = openRawChannel({ address })
  onTestFinished(() => channel.close())
  await channel.callUnary(echo, Buffer.alloc(0))
  const stream = channel.openStream(chat)
  stream.write(Buffer.alloc(0))
  stream.end()
  await new Promise((resolve) => stream.onClose(resolve))
  const ended = await spans(3)
  const serverSpan = (name: string) =>
    ended.find((span) => span.kind === SERVER && span.name === method(name))?.spanContext().spanId
  expect(active).toEqual([serverSpan('Echo'), serverSpan('Echo'), serverSpan('Chat')])
})

it('a raw call is one trace with its server', async () => {
  const { echo } = EchoService.method
  const { address } = await serveEcho(
    {},
    { implementations: [implementRawUnary(echo, (request, call) => call.answer(request))] },
  )
  const channel = openRawChannel({ address })
  onTestFinished(() => channel.close())
  await channel.callUnary(echo, Buffer.alloc(0))
  const [server, client] = await spans(2)
  expect(server?.parentSpanContext?.spanId).toBe(client?.spanContext().spanId)
})
