import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { AttributeProto_AttributeType as Kind, ModelProtoSchema } from '@slipway/proto/onnx/onnx'
import { type Datatype, toOnnx } from './datatype.ts'
import { OnnxError, quote, type TensorSpec } from './model.ts'
import { readModel } from './read.ts'

const IR_VERSION = 10n
const DEFAULT_OPSET = 21

/** A parameter of a node, under its kind. */
export type AttributeValue =
  | { readonly int: number | bigint }
  | { readonly ints: readonly (number | bigint)[] }
  | { readonly float: number }
  | { readonly floats: readonly number[] }
  | { readonly text: string }
  | { readonly texts: readonly string[] }

/** One operation: an operator, the values it takes and gives ('' for an optional one left out), its parameters. */
export interface NodeDescription {
  readonly operator: string
  readonly domain?: string
  readonly name?: string
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes?: Readonly<Record<string, AttributeValue>>
}

/** A constant. FP16 and BF16 take the numbers of their bits. */
export interface Initializer {
  readonly name: string
  readonly datatype: Datatype
  readonly shape: readonly number[]
  readonly values: ArrayLike<number> | readonly bigint[] | BigInt64Array | readonly string[]
}

/** A model in plain data. */
export interface ModelDescription {
  readonly name: string
  readonly inputs: readonly TensorSpec[]
  readonly outputs: readonly TensorSpec[]
  readonly nodes: readonly NodeDescription[]
  readonly initializers?: readonly Initializer[]
  /** Versions by domain; without it the standard operators at version 21. */
  readonly opsets?: Readonly<Record<string, number>>
  readonly metadata?: Readonly<Record<string, string>>
}

type ModelInit = MessageInitShape<typeof ModelProtoSchema>
type GraphInit = NonNullable<ModelInit['graph']>
type ValueInit = NonNullable<GraphInit['input']>[number]
type TensorInit = NonNullable<GraphInit['initializer']>[number]
type NodeInit = NonNullable<GraphInit['node']>[number]
type AttributeInit = NonNullable<NodeInit['attribute']>[number]

/** Writes a model as the bytes of an `.onnx` file. The same description gives the same bytes. Throws OnnxError when it is not valid. */
export function buildModel(description: ModelDescription): Uint8Array {
  const opsets = description.opsets ?? { '': DEFAULT_OPSET }
  const init: ModelInit = {
    irVersion: IR_VERSION,
    producerName: 'slipway',
    opsetImport: Object.entries(opsets).map(([domain, version]) => ({ domain, version: BigInt(version) })),
    metadataProps: Object.entries(description.metadata ?? {}).map(([key, value]) => ({ key, value })),
    graph: {
      name: description.name,
      input: description.inputs.map(writeValue),
      output: description.outputs.map(writeValue),
      initializer: (description.initializers ?? []).map(writeTensor),
      node: description.nodes.map(writeNode),
    },
  }
  const bytes = toBinary(ModelProtoSchema, create(ModelProtoSchema, init))
  readModel(bytes)
  return bytes
}

function writeValue({ name, datatype, shape }: TensorSpec): ValueInit {
  const dim = shape.map((size, index) => ({
    value:
      size < 0
        ? { case: 'dimParam' as const, value: `${name}_${index}` }
        : { case: 'dimValue' as const, value: BigInt(size) },
  }))
  return { name, type: { value: { case: 'tensorType', value: { elemType: toOnnx(datatype), shape: { dim } } } } }
}

function writeNode({ operator, domain, name, inputs, outputs, attributes }: NodeDescription, index: number): NodeInit {
  return {
    opType: operator,
    domain: domain ?? '',
    name: name ?? `${operator.toLowerCase()}_${index}`,
    input: [...inputs],
    output: [...outputs],
    attribute: Object.entries(attributes ?? {}).map(([key, value]) => writeAttribute(key, value)),
  }
}

function writeAttribute(name: string, value: AttributeValue): AttributeInit {
  if ('int' in value) return { name, type: Kind.INT, i: BigInt(value.int) }
  if ('ints' in value) return { name, type: Kind.INTS, ints: value.ints.map(BigInt) }
  if ('float' in value) return { name, type: Kind.FLOAT, f: value.float }
  if ('floats' in value) return { name, type: Kind.FLOATS, floats: [...value.floats] }
  if ('text' in value) return { name, type: Kind.STRING, s: Buffer.from(value.text) }
  return { name, type: Kind.STRINGS, strings: value.texts.map((text) => Buffer.from(text)) }
}

function writeTensor({ name, datatype, shape, values }: Initializer): TensorInit {
  const count = shape.reduce((product, size) => product * size, 1)
  if (values.length !== count) {
    throw new OnnxError(`initializer ${quote(name)} has ${values.length} values where its shape needs ${count}`)
  }
  const common = { name, dataType: toOnnx(datatype), dims: shape.map(BigInt) }
  const items: readonly (number | bigint | string)[] = Array.from<number | bigint | string>(values)
  if (datatype === 'BYTES') return { ...common, stringData: items.map((text) => Buffer.from(String(text))) }
  return { ...common, rawData: packNumbers(datatype, items) }
}

type Put = (view: DataView, at: number, value: number | bigint | string) => void

const putters: Readonly<Record<Exclude<Datatype, 'BYTES'>, readonly [bytes: number, put: Put]>> = {
  BOOL: [1, (view, at, value) => view.setUint8(at, value ? 1 : 0)],
  UINT8: [1, (view, at, value) => view.setUint8(at, Number(value))],
  INT8: [1, (view, at, value) => view.setInt8(at, Number(value))],
  UINT16: [2, (view, at, value) => view.setUint16(at, Number(value), true)],
  INT16: [2, (view, at, value) => view.setInt16(at, Number(value), true)],
  FP16: [2, (view, at, value) => view.setUint16(at, Number(value), true)],
  BF16: [2, (view, at, value) => view.setUint16(at, Number(value), true)],
  UINT32: [4, (view, at, value) => view.setUint32(at, Number(value), true)],
  INT32: [4, (view, at, value) => view.setInt32(at, Number(value), true)],
  FP32: [4, (view, at, value) => view.setFloat32(at, Number(value), true)],
  FP64: [8, (view, at, value) => view.setFloat64(at, Number(value), true)],
  INT64: [8, (view, at, value) => view.setBigInt64(at, BigInt(value), true)],
  UINT64: [8, (view, at, value) => view.setBigUint64(at, BigInt(value), true)],
}

function packNumbers(datatype: Exclude<Datatype, 'BYTES'>, values: readonly (number | bigint | string)[]): Uint8Array {
  const [size, put] = putters[datatype]
  const bytes = new Uint8Array(values.length * size)
  const view = new DataView(bytes.buffer)
  for (const [index, value] of values.entries()) put(view, index * size, value)
  return bytes
}
