import { buildModel, identityModel, mlpModel, randomLayers, treeEnsembleModel } from '@slipway/onnx'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { predict } from './local-predictions.ts'
import type { ServedVersion } from './served-version.ts'
import { randomNumbers } from './simulated-server.fixture.ts'
import { runOptions, startVersion } from './testing.ts'

// The rule of README.md: what batching may change in an answer, held against models of each kind.

/** FP32 answers of products of matrices differ by no more than so much, plus so much of the value. */
const ABSOLUTE = 1e-6
const RELATIVE = 1e-5

const elementwise = buildModel({
  name: 'elementwise',
  inputs: [{ name: 'features', datatype: 'FP32', shape: [-1, 5] }],
  outputs: [{ name: 'probability', datatype: 'FP32', shape: [-1, 5] }],
  nodes: [
    { operator: 'Exp', inputs: ['features'], outputs: ['large'] },
    { operator: 'Tanh', inputs: ['large'], outputs: ['probability'] },
  ],
})

const weights = randomLayers([96, 256, 8], 6)
const products = buildModel({
  name: 'products',
  inputs: [{ name: 'features', datatype: 'FP32', shape: [-1, 96] }],
  outputs: [{ name: 'probability', datatype: 'FP32', shape: [-1, 8] }],
  nodes: [
    { operator: 'MatMul', inputs: ['features', 'first'], outputs: ['wide'] },
    { operator: 'MatMul', inputs: ['wide', 'second'], outputs: ['probability'] },
  ],
  initializers: [
    { name: 'first', datatype: 'FP32', shape: [96, 256], values: weights[0]?.weights ?? [] },
    { name: 'second', datatype: 'FP32', shape: [256, 8], values: weights[1]?.weights ?? [] },
  ],
})

interface Kind {
  readonly model: Uint8Array
  readonly input: string
  readonly columns: number
  readonly isBitEqual: boolean
}

const kinds: Readonly<Record<string, Kind>> = {
  'an identity': { model: identityModel('FP32', [-1, 3]), input: 'input', columns: 3, isBitEqual: true },
  'functions of single elements': { model: elementwise, input: 'features', columns: 5, isBitEqual: true },
  'an ensemble of trees': { model: treeEnsembleModel(forest()), input: 'features', columns: 4, isBitEqual: true },
  'a small perceptron': {
    model: mlpModel({ layers: randomLayers([16, 64, 32, 1], 3) }),
    input: 'features',
    columns: 16,
    isBitEqual: false,
  },
  'products of matrices': { model: products, input: 'features', columns: 96, isBitEqual: false },
  'a wide perceptron': {
    model: mlpModel({ layers: randomLayers([200, 512, 512, 10], 4), sigmoid: false }),
    input: 'features',
    columns: 200,
    isBitEqual: false,
  },
}

const versions = new Map<string, ServedVersion>()

beforeAll(async () => {
  for (const [name, { model }] of Object.entries(kinds)) {
    versions.set(name, await startVersion({ model: 'm', bytes: model }, runOptions()))
  }
})
afterAll(async () => {
  for (const version of versions.values()) await version.close()
})

describe.each(Object.keys(kinds))('%s', (name) => {
  test('answers a request in any batch as it answers it alone, within the rule', async () => {
    const { input, columns, isBitEqual } = kinds[name] as Kind
    const version = versions.get(name) as ServedVersion
    const random = randomNumbers(11)
    const ask = async (values: Float32Array): Promise<Float32Array> => {
      const shape = [values.length / columns, columns]
      const bytes = Buffer.from(values.buffer)
      const [output] = await predict(version, { inputs: [{ name: input, datatype: 'FP32', shape, bytes }] })
      return new Float32Array(Uint8Array.from(output?.bytes ?? []).buffer)
    }
    const before = version.counts
    for (let mix = 0; mix < 30; mix++) {
      const requests = Array.from({ length: 1 + Math.floor(40 * random()) }, () =>
        Float32Array.from({ length: columns * Math.ceil(12 * random() ** 3) }, () => 4 * random() - 2),
      )
      const together = await Promise.all(requests.map(ask))
      for (const [index, request] of requests.entries()) {
        const alone = await ask(request)
        if (isBitEqual) expect(together[index]).toEqual(alone)
        else expect(furthest(together[index], alone)).toBeLessThanOrEqual(1)
      }
    }
    const { batches, rows } = version.counts
    expect((rows - before.rows) / (batches - before.batches)).toBeGreaterThan(1)
  })
})

/** The largest difference, in parts of what the rule allows. */
function furthest(values: Float32Array | undefined, expected: Float32Array): number {
  if (values?.length !== expected.length) return Number.POSITIVE_INFINITY
  let most = 0
  for (const [index, value] of expected.entries()) {
    const difference = Math.abs((values[index] ?? Number.NaN) - value)
    most = Math.max(most, difference / (ABSOLUTE + RELATIVE * Math.abs(value)))
  }
  return most
}

/** Fifty trees of depth four. */
function forest(): Parameters<typeof treeEnsembleModel>[0] {
  const random = randomNumbers(5)
  type Tree = Parameters<typeof treeEnsembleModel>[0]['trees'][number]
  const grow = (depth: number): Tree =>
    depth === 0
      ? { value: random() - 0.5 }
      : {
          feature: Math.floor(4 * random()),
          threshold: 4 * random() - 2,
          missingLeft: random() < 0.5,
          left: grow(depth - 1),
          right: grow(depth - 1),
        }
  return { trees: Array.from({ length: 50 }, () => grow(4)), featureCount: 4 }
}
