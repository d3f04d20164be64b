import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { BACKGROUND_FILE } from '@slipway/models'
import { mlpModel, randomLayers } from '@slipway/onnx'
import { ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import {
  AttributionMethod,
  Baseline,
  type ExplainRequestSchema,
  type ExplainResponse,
  ExplainService,
} from '@slipway/proto/slipway/inference/v1/explain_service'
import { BackgroundRowsSchema } from '@slipway/proto/slipway/registry/v1/background'
import { FeatureType, type ModelVersion, ModelVersionSchema } from '@slipway/proto/slipway/registry/v1/model'
import { type Client, Code, createClient, createServer, Failure } from '@slipway/rpc'
import { afterEach, describe, expect, test } from 'vitest'
import { refusal } from '../refusals.ts'
import type { Servable } from '../servable.ts'
import { describeSignature } from '../signature.ts'
import { runOptions, startVersion } from '../testing.ts'
import { BACKGROUND_PRIORITY } from '../work-queue.ts'
import { functionModel, type RowFunction, vectorSignature, vectors } from './functions.fixture.ts'
import { createExplain } from './service.ts'
import type { ExplainSettings } from './settings.ts'

type Request = MessageInitShape<typeof ExplainRequestSchema>

const settings: ExplainSettings = {
  maxExplainedRows: 8,
  maxExplainCalls: 2,
  explainBatchRows: 16,
  explainBatchesInFlight: 2,
  explainTimeoutMs: 30_000,
}
const closing: (() => unknown)[] = []

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

interface Registered {
  readonly version?: MessageInitShape<typeof ModelVersionSchema>
  readonly background?: readonly (readonly number[])[]
}

/** Serves explanations of a version; what is registered with it is counted as it is fetched. */
async function explaining(
  served: Servable,
  { version, background }: Registered = {},
  change: Partial<ExplainSettings> = {},
) {
  const fetched: string[] = []
  const rows = background && vectors(background)
  const inputs = rows?.inputs?.map((input, index) => ({
    ...input,
    raw: rows.rawInputContents?.[index] ?? new Uint8Array(),
  }))
  const file = inputs && toBinary(BackgroundRowsSchema, create(BackgroundRowsSchema, { inputs: inputs as never }))
  const explain = createExplain({
    models: { acquire: () => served },
    source: {
      async describe(name): Promise<ModelVersion | undefined> {
        fetched.push(name)
        return version && create(ModelVersionSchema, { digest: served.digest, ...version } as never)
      },
      async files() {
        return {
          files: file === undefined ? [] : [{ path: BACKGROUND_FILE, sizeBytes: file.length }],
          async read(path) {
            fetched.push(path)
            return file ?? new Uint8Array()
          },
        }
      },
    },
    settings: { ...settings, ...change },
  })
  const server = createServer({ implementations: explain.implementations, listen: { host: '127.0.0.1', port: 0 } })
  const { address } = await server.start()
  const client = createClient(ExplainService, { address })
  closing.push(
    () => client.close(),
    () => explain.stop(),
    () => server.drain({ graceMs: 1000 }),
  )
  return { client, explain, fetched }
}

async function explained(client: Client<typeof ExplainService>, request: Partial<Request>): Promise<ExplainResponse> {
  return await client.explain({ model: 'function', ...request } as Request, { timeoutMs: 20_000 })
}

async function failureOf(work: Promise<unknown>): Promise<Failure> {
  return await work.then(
    () => Promise.reject(new Error('it did not fail')),
    (error: unknown) => Failure.from(error),
  )
}

const tensors = (rows: readonly (readonly number[])[]) => ({ case: 'tensors', value: vectors(rows) }) as const
const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)
const number = (value: number | string | undefined) => Number(value)

/** The mean contribution over all orders and background rows: what is promised. */
function definition(answer: RowFunction, row: readonly number[], background: readonly (readonly number[])[]): number[] {
  const orders = permutations(row.map((_, index) => index))
  const values = row.map(() => 0)
  for (const other of background) {
    for (const order of orders) {
      const hybrid = [...other]
      let before = answer(hybrid)
      for (const feature of order) {
        hybrid[feature] = row[feature] ?? 0
        const after = answer(hybrid)
        values[feature] = (values[feature] ?? 0) + (after - before) / orders.length / background.length
        before = after
      }
    }
  }
  return values
}

function permutations(items: readonly number[]): number[][] {
  if (items.length === 0) return [[]]
  return items.flatMap((first) => permutations(items.filter((item) => item !== first)).map((rest) => [first, ...rest]))
}

const interacting: RowFunction = ([a, b, c, d]) =>
  number(a) * number(b) + Math.max(number(c), number(d)) + Math.tanh(number(a) - number(d))
const background = [
  [0, 1, 2, 3],
  [1, 1, 0, -1],
  [2, -1, 0.5, 0],
]

describe('exact explanations', () => {
  test('are the mean contributions over all orders of the features, for each row, and add up', async () => {
    const { client, fetched } = await explaining(functionModel(vectorSignature(4), interacting), { background })
    const rows = [
      [1, 2, 3, 4],
      [-1, 0.5, 2, 0],
    ]
    const answer = await explained(client, { rows: tensors(rows) })
    expect(answer).toMatchObject({
      modelVersion: 'models/function/versions/1',
      output: 'score',
      features: ['features[0]', 'features[1]', 'features[2]', 'features[3]'],
      baseline: Baseline.ROWS,
      backgroundRows: 3,
    })
    expect(answer.baseValue).toBeCloseTo(sum(background.map(interacting)) / 3, 12)
    for (const [index, explanation] of answer.explanations.entries()) {
      const wanted = definition(interacting, rows[index] ?? [], background)
      for (const [feature, value] of wanted.entries()) expect(explanation.attributions[feature]).toBeCloseTo(value, 12)
      expect(explanation.method).toBe(AttributionMethod.EXACT)
      expect(explanation.standardErrors).toEqual([0, 0, 0, 0])
      expect(explanation.prediction).toBe(interacting(rows[index] ?? []))
      expect(answer.baseValue + sum(explanation.attributions)).toBeCloseTo(explanation.prediction, 12)
      expect(Math.abs(explanation.additivityResidual)).toBeLessThan(1e-12)
    }
    expect(fetched).toEqual(['models/function/versions/1', BACKGROUND_FILE])
  })

  test('of a network in an executor agree with the definition within FP32', async () => {
    const layers = randomLayers([4, 8, 1], 7)
    const served = await startVersion({ model: 'function', bytes: mlpModel({ layers }) }, runOptions())
    closing.push(() => served.close())
    const { client } = await explaining(served, { background })
    const row = [1, 2, 3, 4]
    const [first, second] = layers
    const network: RowFunction = (cells) => {
      const hidden = Array.from({ length: 8 }, (_, unit) => {
        const dot = sum(cells.map((cell, index) => number(cell) * (first?.weights[index * 8 + unit] ?? 0)))
        return Math.max(0, dot + (first?.bias[unit] ?? 0))
      })
      return (
        1 /
        (1 + Math.exp(-sum(hidden.map((value, unit) => value * (second?.weights[unit] ?? 0))) - (second?.bias[0] ?? 0)))
      )
    }
    const answer = await explained(client, { rows: tensors([row]) })
    const wanted = definition(network, row, background)
    for (const [feature, value] of wanted.entries())
      expect(answer.explanations[0]?.attributions[feature]).toBeCloseTo(value, 6)
  })

  test('run each hybrid once: what does not differ and what is equal is not asked for again', async () => {
    const served = functionModel(vectorSignature(4), interacting)
    const { client } = await explaining(served, {
      background: [
        [0, 1, 3, 4],
        [9, 9, 3, 4],
        [0, 1, 3, 4],
      ],
    })
    const { explanations } = await explained(client, { rows: tensors([[1, 2, 3, 4]]) })
    // The row as it came and put together, and with one of two features from either of two distinct rows.
    expect(explanations[0]?.evaluations).toBe(6n)
    // Those, and the two distinct background rows.
    expect(sum(served.offered)).toBe(8)
  })

  test('keep the answers to the background for the next explanation', async () => {
    const served = functionModel(vectorSignature(4), interacting)
    const { client, fetched } = await explaining(served, { background })
    await explained(client, { rows: tensors([[1, 2, 3, 4]]) })
    const before = sum(served.offered)
    const { explanations } = await explained(client, { rows: tensors([[1, 2, 3, 4]]) })
    expect(BigInt(sum(served.offered) - before)).toBe(explanations[0]?.evaluations)
    expect(fetched.length).toBe(2)
  })
})

describe('features', () => {
  const binding = (feature: string, input: string, column: number, type = 1) => ({
    feature,
    input,
    column,
    type,
    source: 1,
  })

  test('have the names and the order of the bindings, and come as values', async () => {
    const signature = describeSignature(
      [
        { name: 'numbers', datatype: 'FP32', shape: [-1, 2] },
        { name: 'city', datatype: 'BYTES', shape: [-1] },
      ],
      [{ name: 'score', datatype: 'FP64', shape: [-1, 1] }],
    )
    const served = functionModel(signature, ([a, b, city]) => number(a) + 10 * number(b) + (city === 'Ulm' ? 100 : 0))
    const version = {
      features: [
        binding('city', 'city', 0, FeatureType.STRING),
        binding('b', 'numbers', 1, FeatureType.DOUBLE),
        binding('a', 'numbers', 0, FeatureType.DOUBLE),
      ],
      outputs: [{ output: 'cost', tensor: 'score', column: 0 }],
      referenceDistributions: [
        {
          name: 'a',
          cells: { case: 'numeric', value: { edges: [2, 2] } },
          windows: [{ counts: [8n, 0n, 0n, 0n, 0n] }],
        },
        {
          name: 'b',
          cells: { case: 'numeric', value: { edges: [0, 2] } },
          windows: [{ counts: [8n, 0n, 0n, 0n, 0n] }],
        },
        {
          name: 'city',
          cells: { case: 'categorical', value: { values: ['Bonn', 'Ulm'] } },
          windows: [{ counts: [3n, 1n, 0n, 0n] }],
        },
      ],
    } as const
    const { client } = await explaining(served, { version: version as never })
    const values = {
      a: { kind: { case: 'doubleValue', value: 3 } },
      b: { kind: { case: 'int64Value', value: 2n } },
      city: { kind: { case: 'stringValue', value: 'Ulm' } },
    } as const
    const answer = await explained(client, { rows: { case: 'features', value: { rows: [{ values }] } } })
    expect(answer).toMatchObject({
      output: 'cost',
      features: ['city', 'b', 'a'],
      baseline: Baseline.MARGINALS,
      backgroundRows: 64,
    })
    const [city = 0, b = 0, a = 0] = answer.explanations[0]?.attributions ?? []
    expect(city).toBeCloseTo(75, 9)
    expect(b).toBeCloseTo(10, 1)
    expect(a).toBeCloseTo(1, 9)
    const unknown = { ...values, c: { kind: { case: 'boolValue', value: true } } } as const
    const failure = await failureOf(
      explained(client, { rows: { case: 'features', value: { rows: [{ values: unknown }] } } }),
    )
    expect([failure.code, failure.violations[0]?.field]).toEqual([
      Code.INVALID_ARGUMENT,
      'features.rows[0].values["c"]',
    ])
  })

  test('of a group count as one', async () => {
    const { client } = await explaining(functionModel(vectorSignature(4), interacting), { background })
    const groups = [{ name: 'pair', features: ['features[3]', 'features[0]'] }]
    const answer = await explained(client, { rows: tensors([[1, 2, 3, 4]]), options: { groups } })
    expect(answer.features).toEqual(['pair', 'features[1]', 'features[2]'])
    const asOne: RowFunction = ([which, b, c]) => {
      const [a, d] = which === -1 ? [1, 4] : [background[number(which)]?.[0], background[number(which)]?.[3]]
      return interacting([a ?? 0, b ?? 0, c ?? 0, d ?? 0])
    }
    const wanted = definition(
      asOne,
      [-1, 2, 3],
      background.map(([, b = 0, c = 0], row) => [row, b, c]),
    )
    for (const [feature, value] of wanted.entries())
      expect(answer.explanations[0]?.attributions[feature]).toBeCloseTo(value, 12)
    const wrong = [{ name: 'pair', features: ['features[4]'] }]
    const failure = await failureOf(explained(client, { rows: tensors([[1, 2, 3, 4]]), options: { groups: wrong } }))
    expect(failure.violations[0]?.field).toBe('options.groups[0].features')
  })
})

describe('sampled explanations', () => {
  const width = 16
  const wide: RowFunction = (row) =>
    sum(row.map((cell, index) => number(cell) * (index % 3))) + number(row[0]) * number(row[1]) * number(row[2])
  const rows = [Array.from({ length: width }, (_, index) => index + 1)]
  const many = Array.from({ length: 6 }, (_, row) =>
    Array.from({ length: width }, (_, index) => (index * 7 + row * 5) % 4),
  )

  test('add up, and are within their standard errors; the same seed gives the same', async () => {
    const { client } = await explaining(functionModel(vectorSignature(width), wide), { background: many })
    const request = { rows: tensors(rows), options: { maxEvaluations: 6_000n, seed: 3n, targetStandardError: 0 } }
    const answer = await explained(client, request)
    const explanation = answer.explanations[0]
    expect(explanation?.method).toBe(AttributionMethod.SAMPLED)
    expect(answer.baseValue + sum(explanation?.attributions ?? [])).toBeCloseTo(wide(rows[0] ?? []), 9)
    const interaction = definition(
      ([a, b, c]) => number(a) * number(b) * number(c),
      [1, 2, 3],
      many.map((row) => row.slice(0, 3)),
    )
    for (let feature = 0; feature < width; feature++) {
      const mean = sum(many.map((row) => row[feature] ?? 0)) / many.length
      const wanted = (feature % 3) * (feature + 1 - mean) + (interaction[feature] ?? 0)
      const error = explanation?.standardErrors[feature] ?? 0
      expect(Math.abs((explanation?.attributions[feature] ?? 0) - wanted)).toBeLessThan(4 * error + 1e-9)
      // Only what interacts is uncertain.
      if (feature < 3) expect(error).toBeGreaterThan(0)
      else expect(error).toBeLessThan(1e-9)
    }
    expect(await explained(client, request)).toEqual(answer)
    const other = await explained(client, { ...request, options: { ...request.options, seed: 4n } })
    expect(other.explanations[0]?.attributions).not.toEqual(explanation?.attributions)
  })

  test('compare with fewer background rows when the budget is small, and are refused when it is too small', async () => {
    const { client } = await explaining(functionModel(vectorSignature(width), wide), { background: many })
    const answer = await explained(client, { rows: tensors(rows), options: { maxEvaluations: 130n } })
    expect(answer.backgroundRows).toBe(2)
    expect(answer.explanations[0]?.evaluations).toBeLessThanOrEqual(132n)
    const failure = await failureOf(explained(client, { rows: tensors(rows), options: { maxEvaluations: 59n } }))
    expect([failure.code, failure.violations[0]?.field]).toEqual([Code.INVALID_ARGUMENT, 'options.max_evaluations'])
  })

  test('stop when the standard errors are small enough', async () => {
    const { client } = await explaining(functionModel(vectorSignature(width), wide), { background: many })
    const answer = await explained(client, { rows: tensors(rows), options: { targetStandardError: 0.5 } })
    expect(Math.max(...(answer.explanations[0]?.standardErrors ?? [1]))).toBeLessThanOrEqual(0.5)
    expect(answer.explanations[0]?.evaluations).toBeLessThan(10_000n)
  })
})

describe('the way to the executors', () => {
  test('is bounded in rows and batches, behind all that somebody waits for', async () => {
    const served = functionModel(vectorSignature(4), interacting)
    const { client } = await explaining(served, { background })
    await explained(client, { rows: tensors([[1, 2, 3, 4]]) })
    expect(served.priorities).toEqual(new Set([BACKGROUND_PRIORITY]))
    expect(Math.max(...served.offered)).toBeLessThanOrEqual(16)
    expect(served.mostInFlight).toBe(2)
  })

  test('of a model that takes no rows is one row at a time', async () => {
    const signature = describeSignature(
      [{ name: 'features', datatype: 'FP32', shape: [1, 4] }],
      [{ name: 'score', datatype: 'FP64', shape: [1, 1] }],
    )
    const served = functionModel(signature, interacting)
    const { client } = await explaining(served, { background: background.slice(0, 1) })
    const answer = await explained(client, { rows: tensors([[1, 2, 3, 4]]) })
    const wanted = definition(interacting, [1, 2, 3, 4], background.slice(0, 1))
    for (const [feature, value] of wanted.entries())
      expect(answer.explanations[0]?.attributions[feature]).toBeCloseTo(value, 12)
    expect(new Set(served.offered)).toEqual(new Set([1]))
  })

  test('waits while the queue is full', async () => {
    const served = functionModel(vectorSignature(4), interacting)
    let refused = 0
    served.before = async () => (refused++ % 2 === 0 ? refusal.queueFull('function', 'test', 1) : undefined)
    const { client } = await explaining(served, { background })
    const answer = await explained(client, { rows: tensors([[1, 2, 3, 4]]) })
    expect(answer.explanations.length).toBe(1)
    expect(refused).toBeGreaterThan(5)
  })

  test('ends with the deadline', async () => {
    const served = functionModel(vectorSignature(4), interacting)
    let isHeld = false
    let release: () => void = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    served.before = async () => {
      if (served.offered.length > 3) isHeld = true
      if (isHeld) await held
      return undefined
    }
    const { client } = await explaining(served, { background })
    const work = client.explain({ model: 'function', rows: tensors([[1, 2, 3, 4]]) }, { timeoutMs: 150 })
    const failure = await failureOf(work)
    expect(failure.code).toBe(Code.DEADLINE_EXCEEDED)
    release()
  })

  test('ends with the caller, and with the server', async () => {
    const served = functionModel(vectorSignature(4), interacting)
    let release: () => void = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    let started: () => void = () => {}
    const isStarted = new Promise<void>((resolve) => {
      started = resolve
    })
    served.before = async () => {
      started()
      await held
      return undefined
    }
    const { client, explain } = await explaining(served, { background })
    const controller = new AbortController()
    const cancelled = failureOf(
      client.explain({ model: 'function', rows: tensors([[1, 2, 3, 4]]) }, { signal: controller.signal }),
    )
    await isStarted
    controller.abort()
    expect((await cancelled).code).toBe(Code.CANCELLED)
    const stopped = failureOf(explained(client, { rows: tensors([[1, 2, 3, 4]]) }))
    await expect.poll(() => served.offered.length).toBe(2)
    const stopping = explain.stop()
    release()
    await stopping
    expect((await stopped).reason).toBe('STOPPING')
    expect(served.offered.length).toBe(2)
  })

  test('is open to so many explanations at once', async () => {
    const served = functionModel(vectorSignature(4), interacting)
    let release: () => void = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    served.before = async () => {
      await held
      return undefined
    }
    const { client } = await explaining(served, { background })
    const works = [1, 2].map(() => explained(client, { rows: tensors([[1, 2, 3, 4]]) }))
    await expect.poll(() => served.offered.length).toBe(2)
    const failure = await failureOf(
      client.explain({ model: 'function', rows: tensors([[1, 2, 3, 4]]) }, { timeoutMs: 500 }),
    )
    expect([failure.code, failure.reason]).toEqual([Code.RESOURCE_EXHAUSTED, 'EXPLAIN_BUSY'])
    release()
    expect((await Promise.all(works)).length).toBe(2)
  })
})

describe('what cannot be explained', () => {
  test('is a version with nothing to compare with, unless the request brings it', async () => {
    const { client } = await explaining(functionModel(vectorSignature(4), interacting))
    const failure = await failureOf(explained(client, { rows: tensors([[1, 2, 3, 4]]) }))
    expect([failure.code, failure.reason]).toEqual([Code.FAILED_PRECONDITION, 'NO_BASELINE'])
    expect(failure.message).toContain(BACKGROUND_FILE)
    const given = create(ModelInferRequestSchema, vectors(background))
    const answer = await explained(client, { rows: tensors([[1, 2, 3, 4]]), background: given })
    expect(answer.baseline).toBe(Baseline.REQUEST)
    expect(answer.backgroundRows).toBe(3)
  })

  test('is a model that does not answer the same row the same twice', async () => {
    let calls = 0
    const served = functionModel(vectorSignature(4), (row) => interacting(row) + calls++ / 10)
    const { client } = await explaining(served, { background })
    const failure = await failureOf(explained(client, { rows: tensors([[1, 2, 3, 4]]) }))
    expect([failure.code, failure.reason]).toEqual([Code.FAILED_PRECONDITION, 'MODEL_NOT_DETERMINISTIC'])
  })

  test('is an answer that is no number', async () => {
    const { client } = await explaining(
      functionModel(vectorSignature(4), () => Number.NaN),
      { background },
    )
    const failure = await failureOf(explained(client, { rows: tensors([[1, 2, 3, 4]]) }))
    expect(failure.reason).toBe('ANSWER_NOT_FINITE')
  })

  test.each([
    ['rows', { rows: tensors(Array.from({ length: 9 }, () => [1, 2, 3, 4])) }],
    ['inputs[0].shape', { rows: tensors([[1, 2, 3]]) }],
    ['output', { rows: tensors([[1, 2, 3, 4]]), output: 'nothing' }],
    ['model', { rows: tensors([[1, 2, 3, 4]]), model: '' }],
  ])('is refused with the field %s', async (field, request) => {
    const { client } = await explaining(functionModel(vectorSignature(4), interacting), { background })
    const failure = await failureOf(explained(client, request))
    expect([failure.code, failure.violations[0]?.field]).toEqual([Code.INVALID_ARGUMENT, field])
  })
})
