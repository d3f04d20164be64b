import { mlpModel, randomLayers } from '@slipway/onnx'
import { Code } from '@slipway/rpc'
import { attribute, createSpanRecorder, extractTraceContext, logger, startTelemetry } from '@slipway/telemetry'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { predict, type RawTensor } from '../local-predictions.ts'
import { ModelTable } from '../model-table.ts'
import { createObserver } from '../observer.ts'
import type { ServedVersion } from '../served-version.ts'
import { runOptions, serve, startVersion } from '../testing.ts'
import {
  floats,
  heldVersions,
  pipelineFiles,
  readFloats,
  readTexts,
  startTestPipeline,
  texts,
} from './pipeline.fixture.ts'
import type { PipelineVersion } from './pipeline-version.ts'

const model = mlpModel({ layers: randomLayers([2, 8, 1], 3) })
const DIGEST = `sha256:${'0'.repeat(64)}`

/** Scales two features, runs a model, says in words what it found. */
const flights = {
  inputs: [
    { name: 'distance', datatype: 'FP32', shape: [-1] },
    { name: 'carrier', datatype: 'BYTES', shape: [-1] },
  ],
  steps: [
    {
      name: 'label',
      expressions: {
        outputs: [{ name: 'text', datatype: 'BYTES', expression: 'score.probability[0] > 0.5 ? "late" : "on time"' }],
      },
    },
    {
      name: 'scale',
      expressions: {
        outputs: [
          {
            name: 'features',
            datatype: 'FP32',
            shape: [-1, 2],
            expression: '[(input.distance - 700.0) / 500.0, {"AA": 1.0, "UA": -1.0}[input.carrier]]',
          },
        ],
      },
    },
    { name: 'score', model: { file: 'steps/score.onnx', inputs: { features: 'scale.features' } } },
  ],
  outputs: [
    { name: 'label', tensor: 'label.text' },
    { name: 'probability', tensor: 'score.probability' },
  ],
}
const files = () => pipelineFiles(flights, { 'steps/score.onnx': model })

let byHand: ServedVersion
beforeAll(async () => {
  byHand = await startVersion({ model: 'hand', bytes: model }, runOptions())
})
afterAll(() => byHand.close())

async function withPipeline<T>(
  started: Promise<PipelineVersion>,
  use: (version: PipelineVersion) => Promise<T>,
): Promise<T> {
  const version = await started
  try {
    return await use(version)
  } finally {
    await version.close()
  }
}

const named = (outputs: readonly RawTensor[], name: string): RawTensor => {
  const found = outputs.find((output) => output.name === name)
  if (found === undefined) throw new Error(`no ${name}`)
  return found
}

describe('a pipeline', () => {
  test('answers what its steps answer when they are called by hand', async () => {
    await withPipeline(startTestPipeline(files()), async (version) => {
      const distances = [100, 700, 2000, 350.5]
      const carriers = ['AA', 'UA', 'UA', 'AA']
      const outputs = await predict(version, { inputs: [floats('distance', distances), texts('carrier', carriers)] })
      const scaled = distances.flatMap((distance, row) => [(distance - 700) / 500, carriers[row] === 'AA' ? 1 : -1])
      const [probability] = await predict(byHand, { inputs: [floats('features', scaled, [4, 2])] })
      const expected = readFloats(probability as RawTensor)
      expect(readFloats(named(outputs, 'probability'))).toEqual(expected)
      expect(named(outputs, 'probability').shape).toEqual([4, 1])
      expect(readTexts(named(outputs, 'label'))).toEqual(expected.map((value) => (value > 0.5 ? 'late' : 'on time')))
      expect(version.counts).toMatchObject({ batches: 1, rows: 4, queued: 0 })
    })
  })

  test('answers over the wire like a model, and says that it is a pipeline', async () => {
    const server = await serve([])
    const version = await startTestPipeline(files())
    server.models.set('pipeline', '1', { kind: 'ready', served: version, readyTimeMs: Date.now() })
    const metadata = await server.client.modelMetadata({ name: 'pipeline' })
    expect(metadata).toMatchObject({
      platform: 'slipway_pipeline',
      inputs: [
        { name: 'distance', datatype: 'FP32', shape: [-1n] },
        { name: 'carrier', datatype: 'BYTES', shape: [-1n] },
      ],
      outputs: [
        { name: 'label', datatype: 'BYTES', shape: [-1n] },
        { name: 'probability', datatype: 'FP32', shape: [-1n, 1n] },
      ],
    })
    const request = {
      modelName: 'pipeline',
      inputs: [
        { name: 'carrier', datatype: 'BYTES', shape: [1n], contents: { bytesContents: [Buffer.from('AA')] } },
        { name: 'distance', datatype: 'FP32', shape: [1n], contents: { fp32Contents: [900] } },
      ],
    }
    const answer = await server.client.modelInfer({ ...request, outputs: [{ name: 'label' }] })
    expect(answer.outputs.map(({ name, shape }) => [name, shape])).toEqual([['label', [1n]]])
    expect(answer.parameters.slipway_digest?.parameterChoice.value).toBe(version.digest)
    await expect(server.client.modelInfer({ ...request, inputs: request.inputs.slice(1) })).rejects.toMatchObject({
      code: Code.INVALID_ARGUMENT,
    })
    await server.stop()
  })

  test('answers requests of no rows and of many', async () => {
    await withPipeline(startTestPipeline(files()), async (version) => {
      const none = await predict(version, { inputs: [floats('distance', []), texts('carrier', [])] })
      expect(none.map(({ shape }) => shape)).toEqual([[0], [0, 1]])
      const rows = 5000
      const inputs = [floats('distance', Array(rows).fill(1)), texts('carrier', Array(rows).fill('AA'))]
      const many = await predict(version, { inputs })
      expect(named(many, 'label').shape).toEqual([rows])
    })
  })

  test('a row for which an expression has no value fails its request alone, by step, output and row but without the value', async () => {
    await withPipeline(startTestPipeline(files()), async (version) => {
      const ask = (carrier: string) =>
        predict(version, { inputs: [floats('distance', [1, 2]), texts('carrier', ['AA', carrier])] })
      const [good, bad, other] = await Promise.allSettled([ask('UA'), ask('secret'), ask('AA')])
      expect(good.status).toBe('fulfilled')
      expect(other.status).toBe('fulfilled')
      expect(bad).toMatchObject({
        reason: {
          code: Code.INVALID_ARGUMENT,
          reason: 'EXPRESSION_FAILED',
          message: "step 'scale' failed: features in row 1: a key that is not in the map",
          metadata: { step: 'scale' },
          violations: [{ field: 'scale.features[1]' }],
        },
      })
    })
  })

  test('a request whose tensors have other numbers of rows is refused', async () => {
    await withPipeline(startTestPipeline(files()), async (version) => {
      const asked = predict(version, { inputs: [floats('distance', [1, 2]), texts('carrier', ['AA'])] })
      await expect(asked).rejects.toMatchObject({ code: Code.INVALID_ARGUMENT, metadata: { step: 'scale' } })
    })
  })

  test('a deadline that has passed and a caller who is gone reach no model', async () => {
    await withPipeline(startTestPipeline(files()), async (version) => {
      const inputs = [floats('distance', [1]), texts('carrier', ['AA'])]
      await expect(predict(version, { inputs, deadlineMs: Date.now() - 1 })).rejects.toMatchObject({
        code: Code.DEADLINE_EXCEEDED,
      })
      const caller = new AbortController()
      const cancelled = predict(version, {
        inputs: [floats('distance', Array(20_000).fill(1)), texts('carrier', Array(20_000).fill('AA'))],
        signal: caller.signal,
      })
      caller.abort()
      await expect(cancelled).rejects.toMatchObject({ code: Code.CANCELLED })
      expect(version.counts).toMatchObject({ batches: 0, expired: 1, cancelled: 1 })
    })
  })

  test('what it has taken is answered before it ends; what comes later is refused', async () => {
    const version = await startTestPipeline(files())
    const inputs = [floats('distance', [1]), texts('carrier', ['AA'])]
    const taken = predict(version, { inputs })
    const drained = version.drain()
    await expect(taken).resolves.toHaveLength(2)
    await drained
    await expect(predict(version, { inputs })).rejects.toMatchObject({ code: Code.UNAVAILABLE, reason: 'STOPPING' })
  })

  test('more rows than may be under way are refused, with the time after which to try again', async () => {
    const limits = { maxBatchRows: 8, maxBatchBytes: 1e6, maxQueueRows: 10, maxQueueWaitMs: 60_000 }
    await withPipeline(startTestPipeline(files(), { run: runOptions({ limits }) }), async (version) => {
      const ask = () =>
        predict(version, { inputs: [floats('distance', Array(6).fill(1)), texts('carrier', Array(6).fill('AA'))] })
      const [first, second] = await Promise.allSettled([ask(), ask()])
      expect(first.status).toBe('fulfilled')
      expect(second).toMatchObject({ reason: { code: Code.RESOURCE_EXHAUSTED, retryAfterMs: 100 } })
      expect(version.counts.shed).toBe(1)
    })
  })

  test('each step of a traced request is a span, and the run of its model is below it', async () => {
    const recorder = createSpanRecorder()
    const env = { OTEL_TRACES_SAMPLER: 'parentbased_always_on' }
    const telemetry = startTelemetry({ serviceName: 'test', env, spanProcessors: [recorder.processor] })
    const observer = createObserver(logger('test'), new ModelTable())
    const version = await startTestPipeline(files(), { run: runOptions(observer) })
    const trace = extractTraceContext({ traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' })
    await predict(version, { inputs: [floats('distance', [1]), texts('carrier', ['AA'])], trace })
    await expect(
      predict(version, { inputs: [floats('distance', [1]), texts('carrier', ['??'])], trace }),
    ).rejects.toThrow()
    await version.close()
    observer.stop()
    const spans = recorder.spans()
    const [whole, failed] = spans.filter(({ name }) => name === 'inference.pipeline')
    const below = (parent = whole) =>
      spans.filter(({ parentSpanContext }) => parentSpanContext?.spanId === parent?.spanContext().spanId)
    expect(below().map(({ attributes }) => attributes[attribute.pipelineStep])).toEqual(['scale', 'score', 'label'])
    expect(below(below()[1]).map(({ name }) => name)).toEqual(['inference.predict'])
    expect(below(failed).map(({ attributes }) => attributes[attribute.failureReason])).toEqual(['EXPRESSION_FAILED'])
    expect(JSON.stringify(spans.map(({ attributes }) => attributes))).not.toContain('??')
    await telemetry.shutdown()
  })
})

describe('a step with a condition', () => {
  const routed = {
    inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }],
    steps: [
      {
        name: 'score',
        model: {
          file: 'steps/score.onnx',
          inputs: { features: 'input.x' },
          where: 'input.x[0] > 0.0',
          otherwise: { probability: 'input.x[1] / 2.0' },
        },
      },
    ],
    outputs: [{ name: 'y', tensor: 'score.probability' }],
  }

  test('sends the rows for which it holds to the model, and gives the others what is said for them', async () => {
    await withPipeline(startTestPipeline(pipelineFiles(routed, { 'steps/score.onnx': model })), async (version) => {
      const [mixed] = await predict(version, { inputs: [floats('x', [1, 2, -1, 3, 4, 5, 0, 7], [4, 2])] })
      const [alone] = await predict(byHand, { inputs: [floats('features', [1, 2, 4, 5], [2, 2])] })
      const [first, second] = readFloats(alone as RawTensor)
      const values = readFloats(mixed as RawTensor)
      expect(values).toEqual([first, 1.5, second, 3.5])
      const [none] = await predict(version, { inputs: [floats('x', [-1, 8], [1, 2])] })
      expect(readFloats(none as RawTensor)).toEqual([4])
      const [all] = await predict(version, { inputs: [floats('x', [1, 2], [1, 2])] })
      expect(readFloats(all as RawTensor)[0]).toBeCloseTo(first ?? 0, 6)
    })
  })

  test('without a value for the others, they are zero', async () => {
    const [step] = routed.steps
    const bare = { ...routed, steps: [{ ...step, model: { ...step?.model, otherwise: {} } }] }
    await withPipeline(startTestPipeline(pipelineFiles(bare, { 'steps/score.onnx': model })), async (version) => {
      const [outputs] = await predict(version, { inputs: [floats('x', [-1, 2, -3, 4], [2, 2])] })
      expect(readFloats(outputs as RawTensor)).toEqual([0, 0])
    })
  })
})

describe('a version that a pipeline pins', () => {
  const pinning = (digest: string) => ({
    inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }],
    steps: [
      { name: 'one', model: { version: { name: 'models/hand/versions/1', digest }, inputs: { features: 'input.x' } } },
      { name: 'two', model: { version: { name: 'models/hand/versions/1', digest }, inputs: { features: 'input.x' } } },
    ],
    outputs: [
      { name: 'y', tensor: 'one.probability' },
      { name: 'z', tensor: 'two.probability' },
    ],
  })

  test('is held once while the pipeline is loaded, and runs both steps in one batch', async () => {
    const { hold, holds } = heldVersions(byHand)
    await withPipeline(startTestPipeline(pipelineFiles(pinning(DIGEST)), { hold }), async (version) => {
      expect(holds.get('models/hand/versions/1')).toBe(1)
      const before = byHand.counts.batches
      const [y, z] = await predict(version, { inputs: [floats('x', [1, 2], [1, 2])] })
      expect(y?.bytes.equals(z?.bytes ?? Buffer.alloc(0))).toBe(true)
      expect(byHand.counts.batches).toBe(before + 1)
    })
    expect(holds.get('models/hand/versions/1')).toBe(0)
    expect(byHand.isQuarantined).toBe(false)
  })

  test('with another digest is refused, and nothing stays held', async () => {
    const { hold, holds } = heldVersions(byHand)
    const other = `sha256:${'1'.repeat(64)}`
    await expect(startTestPipeline(pipelineFiles(pinning(other)), { hold })).rejects.toMatchObject({
      code: Code.FAILED_PRECONDITION,
      reason: 'DIGEST_MISMATCH',
      metadata: { expected: other, found: DIGEST },
    })
    expect(holds.get('models/hand/versions/1')).toBe(0)
  })

  test('and a pipeline that cannot be served is refused with every problem', async () => {
    const wrong = { ...pinning(DIGEST), outputs: [{ name: 'y', tensor: 'one.nothing' }] }
    const { hold, holds } = heldVersions(byHand)
    await expect(startTestPipeline(pipelineFiles(wrong), { hold })).rejects.toMatchObject({
      code: Code.FAILED_PRECONDITION,
      reason: 'LOAD_FAILED',
      violations: [{ field: 'outputs[0].tensor', description: "there is no tensor 'one.nothing'" }],
    })
    expect(holds.get('models/hand/versions/1')).toBe(0)
  })
})
