import { type Datatype, datatypeBytes, type TensorSpec } from '@slipway/onnx'

/** Inputs and outputs of a model, and whether it takes rows. */
export interface ModelSignature {
  readonly inputs: readonly TensorSpec[]
  readonly outputs: readonly TensorSpec[]
  /** True when the first dimension of every input and output counts rows, so that requests can run together. */
  readonly takesRows: boolean
}

/** Reads off a signature whether the model takes rows. Throws when the runtime cannot carry a tensor. */
export function describeSignature(inputs: readonly TensorSpec[], outputs: readonly TensorSpec[]): ModelSignature {
  for (const [kind, specs] of Object.entries({ input: inputs, output: outputs })) {
    const bfloat = specs.find(({ datatype }) => datatype === 'BF16')
    if (bfloat === undefined) continue
    // ONNX Runtime computes in BF16, but has no tensor of it for Node.js: a graph can cast at its edges.
    throw new Error(
      `${kind} '${bfloat.name}' is BF16, which the runtime cannot carry: cast it to FP32 or FP16 in the model`,
    )
  }
  const takesRows = inputs.length > 0 && [...inputs, ...outputs].every(({ shape }) => shape[0] === -1)
  return { inputs, outputs, takesRows }
}

/** Product of dimensions. */
export function elements(dims: readonly number[], from = 0): number {
  let count = 1
  for (let axis = from; axis < dims.length; axis++) count *= dims[axis] as number
  return count
}

/** Bytes of a tensor; -1 for BYTES, whose elements say their own length. */
export function tensorBytes(datatype: Datatype, dims: readonly number[]): number {
  return datatype === 'BYTES' ? -1 : elements(dims) * datatypeBytes(datatype)
}
