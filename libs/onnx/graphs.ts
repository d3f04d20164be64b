import { buildModel, type Initializer, type NodeDescription } from './build.ts'
import type { Datatype } from './datatype.ts'
import { OnnxError, type TensorSpec } from './model.ts'

const COST_WIDTH = 128

/** One fully connected layer: `weights` is row-major, `inputs` rows by `outputs` columns. */
export interface DenseLayer {
  readonly inputs: number
  readonly outputs: number
  readonly weights: ArrayLike<number>
  readonly bias: ArrayLike<number>
}

/** Layers with reproducible weights in (-1, 1) / sqrt(inputs), for tests and benchmarks; `widths` from input to output. */
export function randomLayers(widths: readonly number[], seed: number): readonly DenseLayer[] {
  const next = generator(seed)
  return widths.slice(1).map((outputs, index) => {
    const inputs = widths[index] ?? 0
    const scale = 1 / Math.sqrt(inputs)
    const weights = Float32Array.from({ length: inputs * outputs }, () => next() * scale)
    return { inputs, outputs, weights, bias: Float32Array.from({ length: outputs }, () => next() * scale) }
  })
}

/**
 * A multi-layer perceptron with ReLU between its layers. Input `features` FP32 [-1, inputs]; output `probability` FP32
 * [-1, outputs], after a sigmoid unless `sigmoid` is false.
 */
export function mlpModel(options: {
  layers: readonly DenseLayer[]
  name?: string
  input?: string
  output?: string
  sigmoid?: boolean
  metadata?: Readonly<Record<string, string>>
}): Uint8Array {
  const { layers, name = 'mlp', input = 'features', output = 'probability', sigmoid = true } = options
  const first = layers[0]
  const last = layers.at(-1)
  if (first === undefined || last === undefined) throw new OnnxError('a perceptron needs a layer')
  const nodes: NodeDescription[] = []
  const initializers: Initializer[] = []
  let value = input
  for (const [index, layer] of layers.entries()) {
    const isLast = index === layers.length - 1
    const sum = isLast && !sigmoid ? output : `sum_${index}`
    nodes.push({ operator: 'Gemm', inputs: [value, `weights_${index}`, `bias_${index}`], outputs: [sum] })
    initializers.push(
      { name: `weights_${index}`, datatype: 'FP32', shape: [layer.inputs, layer.outputs], values: layer.weights },
      { name: `bias_${index}`, datatype: 'FP32', shape: [layer.outputs], values: layer.bias },
    )
    value = isLast ? output : `hidden_${index}`
    if (sum !== value) nodes.push({ operator: isLast ? 'Sigmoid' : 'Relu', inputs: [sum], outputs: [value] })
  }
  return buildModel({
    name,
    inputs: [{ name: input, datatype: 'FP32', shape: [-1, first.inputs] }],
    outputs: [{ name: output, datatype: 'FP32', shape: [-1, last.outputs] }],
    nodes,
    initializers,
    ...(options.metadata ? { metadata: options.metadata } : {}),
  })
}

/** Answers its input. Input `input`, output `output`; the shape is [-1] unless given. */
export function identityModel(datatype: Datatype, shape: readonly number[] = [-1]): Uint8Array {
  const tensor = (name: string): TensorSpec => ({ name, datatype, shape })
  return buildModel({
    name: `identity_${datatype.toLowerCase()}`,
    inputs: [tensor('input')],
    outputs: [tensor('output')],
    nodes: [{ operator: 'Identity', inputs: ['input'], outputs: ['output'] }],
  })
}

/**
 * A model whose cost can be chosen, for benchmarks. It makes `perRun` products of a 128 x 128 matrix with one vector
 * whatever the batch, and `perRow` such products for each row. Input `features` FP32 [-1, 16], output `probability` FP32 [-1, 1].
 */
export function costModel({ perRun, perRow, seed = 1 }: { perRun: number; perRow: number; seed?: number }): Uint8Array {
  const nodes: NodeDescription[] = []
  const [widen, square, narrow] = randomLayers([16, COST_WIDTH, COST_WIDTH, 1], seed)
  if (!widen || !square || !narrow) throw new OnnxError('a cost model needs three layers')
  const initializers: Initializer[] = [
    { name: 'widen', datatype: 'FP32', shape: [16, COST_WIDTH], values: widen.weights },
    { name: 'square', datatype: 'FP32', shape: [COST_WIDTH, COST_WIDTH], values: square.weights },
    { name: 'narrow', datatype: 'FP32', shape: [COST_WIDTH, 1], values: narrow.weights },
    { name: 'rows', datatype: 'INT64', shape: [1], values: [0] },
    { name: 'little', datatype: 'FP32', shape: [1], values: [1e-6] },
  ]
  const chain = (from: string, prefix: string, length: number): string => {
    let value = from
    for (let index = 0; index < length; index++) {
      nodes.push({ operator: 'MatMul', inputs: [value, 'square'], outputs: [`${prefix}_product_${index}`] })
      nodes.push({ operator: 'Tanh', inputs: [`${prefix}_product_${index}`], outputs: [`${prefix}_${index}`] })
      value = `${prefix}_${index}`
    }
    return value
  }
  nodes.push({ operator: 'MatMul', inputs: ['features', 'widen'], outputs: ['wide'] })
  const row = chain('wide', 'row', perRow)
  nodes.push({ operator: 'MatMul', inputs: [row, 'narrow'], outputs: ['score'] })
  nodes.push({
    operator: 'ReduceMax',
    inputs: ['wide', 'rows'],
    outputs: ['run'],
    attributes: { keepdims: { int: 1 } },
  })
  const run = chain('run', 'run', perRun)
  nodes.push({ operator: 'MatMul', inputs: [run, 'narrow'], outputs: ['whole'] })
  nodes.push({ operator: 'Tanh', inputs: ['whole'], outputs: ['bounded'] })
  nodes.push({ operator: 'Mul', inputs: ['bounded', 'little'], outputs: ['trace'] })
  nodes.push({ operator: 'Sigmoid', inputs: ['score'], outputs: ['sure'] })
  nodes.push({ operator: 'Add', inputs: ['sure', 'trace'], outputs: ['probability'] })
  return buildModel({
    name: 'cost',
    inputs: [{ name: 'features', datatype: 'FP32', shape: [-1, 16] }],
    outputs: [{ name: 'probability', datatype: 'FP32', shape: [-1, 1] }],
    nodes,
    initializers,
  })
}

/** Numbers in (-1, 1) from a linear congruential generator (the constants of Numerical Recipes). */
function generator(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state / 2 ** 32) * 2 - 1
  }
}
