/** The model that malformed requests are sent to: an identity of tensors of many kinds, all by rows. */
import { buildModel, type Datatype } from '@slipway/onnx'

/** Name of the model. */
export const FUZZ_MODEL = 'fuzz'

/** Its inputs; each has an output of the same kind, with `_out` after the name. */
export const fuzzTensors: readonly {
  readonly name: string
  readonly datatype: Datatype
  /** Sizes after the dimension of rows. */
  readonly row: readonly number[]
}[] = [
  { name: 'values', datatype: 'FP32', row: [4] },
  { name: 'count', datatype: 'INT64', row: [] },
  { name: 'flag', datatype: 'BOOL', row: [] },
  { name: 'label', datatype: 'BYTES', row: [] },
  { name: 'tiny', datatype: 'INT8', row: [2] },
  { name: 'wide', datatype: 'UINT16', row: [1] },
]

/** The model's bytes. */
export function fuzzModel(): Uint8Array {
  const tensor = (suffix: string) => (spec: (typeof fuzzTensors)[number]) => ({
    name: `${spec.name}${suffix}`,
    datatype: spec.datatype,
    shape: [-1, ...spec.row],
  })
  return buildModel({
    name: FUZZ_MODEL,
    inputs: fuzzTensors.map(tensor('')),
    outputs: fuzzTensors.map(tensor('_out')),
    nodes: fuzzTensors.map(({ name }) => ({ operator: 'Identity', inputs: [name], outputs: [`${name}_out`] })),
  })
}
