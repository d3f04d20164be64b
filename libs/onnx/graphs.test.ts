import { InferenceSession, Tensor } from 'onnxruntime-node'
import { describe, expect, test } from 'vitest'
import {
  buildModel,
  costModel,
  type Datatype,
  identityModel,
  mlpModel,
  randomLayers,
  readModel,
  type Tree,
  treeEnsembleModel,
} from './index.ts'

// The runtime's binding gives FP16 back as Uint16Array and fails where it finds this newer type.
Reflect.deleteProperty(globalThis, 'Float16Array')

const options = { intraOpNumThreads: 1, interOpNumThreads: 1 }

async function score(model: Uint8Array, rows: readonly (readonly number[])[]): Promise<number[]> {
  const session = await InferenceSession.create(model, options)
  const features = new Tensor('float32', Float32Array.from(rows.flat()), [rows.length, rows[0]?.length ?? 0])
  const answer = await session.run({ features })
  const data = answer.probability?.data
  if (!(data instanceof Float32Array)) throw new Error('no probability')
  return [...data]
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))

describe('mlpModel', () => {
  test('ONNX Runtime computes what the layers say', async () => {
    const layers = [
      { inputs: 2, outputs: 2, weights: [1, -1, 0.5, 2], bias: [0, 0.25] },
      { inputs: 2, outputs: 1, weights: [2, -1], bias: [0.1] },
    ]
    const expected = (a: number, b: number) => {
      const h = [Math.max(0, a + 0.5 * b), Math.max(0, -a + 2 * b + 0.25)] as const
      return sigmoid(2 * h[0] - h[1] + 0.1)
    }
    const [first, second] = await score(mlpModel({ layers }), [
      [1, 2],
      [-3, 0.5],
    ])
    expect(first).toBeCloseTo(expected(1, 2), 6)
    expect(second).toBeCloseTo(expected(-3, 0.5), 6)
  })

  test('the same seed gives the same bytes, another seed others', () => {
    const model = (seed: number) =>
      Buffer.from(mlpModel({ layers: randomLayers([16, 64, 32, 1], seed) })).toString('hex')
    expect(model(1)).toBe(model(1))
    expect(model(1)).not.toBe(model(2))
  })
})

describe('treeEnsembleModel', () => {
  const tree: Tree = {
    feature: 0,
    threshold: 0.1,
    missingLeft: true,
    left: { value: -1 },
    right: { feature: 1, threshold: 5, missingLeft: false, left: { value: 0.5 }, right: { value: 2 } },
  }
  const walk = (node: Tree, row: readonly number[]): number => {
    if ('value' in node) return node.value
    const x = Math.fround(row[node.feature] ?? Number.NaN)
    const left = Number.isNaN(x) ? node.missingLeft : x <= node.threshold
    return walk(left ? node.left : node.right, row)
  }

  test('ONNX Runtime walks the trees as described, missing values and values at a threshold included', async () => {
    const rows = [0, 0.1, 0.2, Number.NaN, -1e30, 1e30].flatMap((a) => [5, 5.000001, 4, Number.NaN].map((b) => [a, b]))
    const answers = await score(
      treeEnsembleModel({ trees: [tree, { value: 0.25 }, tree], featureCount: 2, base: -0.5 }),
      rows,
    )
    for (const [index, row] of rows.entries()) {
      expect(answers[index]).toBeCloseTo(sigmoid(-0.5 + 0.25 + 2 * walk(tree, row)), 6)
    }
  })

  test('a split on a feature that is not there is refused', () => {
    expect(() => treeEnsembleModel({ trees: [tree], featureCount: 1 })).toThrow('feature 1 of 1')
  })
})

describe('identityModel', () => {
  const samples = [
    ['BOOL', 'bool', Uint8Array.of(1, 0)],
    ['UINT8', 'uint8', Uint8Array.of(0, 255)],
    ['UINT16', 'uint16', Uint16Array.of(0, 65535)],
    ['UINT32', 'uint32', Uint32Array.of(0, 2 ** 32 - 1)],
    ['UINT64', 'uint64', BigUint64Array.of(0n, 2n ** 64n - 1n)],
    ['INT8', 'int8', Int8Array.of(-128, 127)],
    ['INT16', 'int16', Int16Array.of(-32768, 32767)],
    ['INT32', 'int32', Int32Array.of(-(2 ** 31), 2 ** 31 - 1)],
    ['INT64', 'int64', BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n)],
    ['FP32', 'float32', Float32Array.of(-1.5, 3)],
    ['FP64', 'float64', Float64Array.of(-1.5, Math.PI)],
    ['BYTES', 'string', ['', 'größer']],
  ] as const satisfies readonly (readonly [Datatype, Tensor.Type, Tensor.DataType])[]

  test.each(samples)('%s comes back as it went in', async (datatype, type, values) => {
    const session = await InferenceSession.create(identityModel(datatype), options)
    const { output } = await session.run({ input: new Tensor(type, values as never, [values.length]) })
    expect(output?.data).toEqual(values)
  })

  test('FP16 comes back bit by bit', async () => {
    const session = await InferenceSession.create(identityModel('FP16'), options)
    const { output } = await session.run({ input: new Tensor('float16', Uint16Array.of(0x3c00, 0xfc00), [2]) })
    const data = output?.data
    expect(ArrayBuffer.isView(data) && Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('hex')).toBe(
      '003c00fc',
    )
  })
})

test('costModel answers each row the same alone and in a batch, near enough for one lane of the trace', async () => {
  const model = costModel({ perRun: 3, perRow: 2 })
  const rows = Array.from({ length: 5 }, (_, row) =>
    Array.from({ length: 16 }, (_, column) => Math.sin(row * 16 + column)),
  )
  const together = await score(model, rows)
  for (const [index, row] of rows.entries()) {
    const [alone] = await score(model, [row])
    expect(together[index]).toBeCloseTo(alone ?? Number.NaN, 5)
  }
})

test('what buildModel writes, readModel reads', () => {
  const bytes = buildModel({
    name: 'add',
    inputs: [
      { name: 'a', datatype: 'FP64', shape: [-1, 3] },
      { name: 'b', datatype: 'FP64', shape: [] },
    ],
    outputs: [{ name: 'sum', datatype: 'FP64', shape: [-1, 3] }],
    nodes: [{ operator: 'Add', inputs: ['a', 'b'], outputs: ['sum'] }],
    opsets: { '': 19 },
    metadata: { author: 'tests' },
  })
  expect(readModel(bytes)).toEqual({
    name: 'add',
    irVersion: 10,
    opsets: { '': 19 },
    producer: 'slipway',
    inputs: [
      { name: 'a', datatype: 'FP64', shape: [-1, 3] },
      { name: 'b', datatype: 'FP64', shape: [] },
    ],
    outputs: [{ name: 'sum', datatype: 'FP64', shape: [-1, 3] }],
    metadata: { author: 'tests' },
    externalFiles: [],
  })
})
