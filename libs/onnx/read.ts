import { fromBinary } from '@bufbuild/protobuf'
import { type ModelProto, ModelProtoSchema, TensorProto_DataLocation } from '@slipway/proto/onnx/onnx'
import { checkGraph } from './check.ts'
import { fromOnnx } from './datatype.ts'
import { OnnxError, quote, type TensorSpec } from './model.ts'

/** What a model says about itself. */
export interface OnnxModel {
  /** The graph's name. */
  readonly name: string
  /** Version of the file format. */
  readonly irVersion: number
  /** Version of the operator sets by domain; the standard domain is ''. */
  readonly opsets: Readonly<Record<string, number>>
  /** The tool that wrote it and its version; '' when it does not say. */
  readonly producer: string
  /** What a caller gives, without the constants that old files list among the inputs. */
  readonly inputs: readonly TensorSpec[]
  /** What a caller gets. */
  readonly outputs: readonly TensorSpec[]
  /** Named texts that travel with the model. */
  readonly metadata: Readonly<Record<string, string>>
  /** Files beside the model that hold its weights, as paths relative to it. */
  readonly externalFiles: readonly string[]
}

type Graph = NonNullable<ModelProto['graph']>
type ValueInfo = Graph['input'][number]

/** Reads a model's signature from the bytes of its `.onnx` file. Throws {@link OnnxError} when it is not a valid model. */
export function readModel(bytes: Uint8Array): OnnxModel {
  const model = decode(bytes)
  const opsets = readOpsets(model)
  const graph = model.graph
  if (graph === undefined) throw new OnnxError('the model has no graph')
  const functions = new Set(model.functions.map((f) => `${f.domain}/${f.name}`))
  checkGraph(graph, { opsets, functions })
  const constants = new Set(graph.initializer.map((tensor) => tensor.name))
  const inputs = graph.input.filter((input) => !constants.has(input.name)).map((input) => readValue('input', input))
  const outputs = graph.output.map((output) => readValue('output', output))
  return {
    name: graph.name,
    irVersion: Number(model.irVersion),
    opsets,
    producer: `${model.producerName} ${model.producerVersion}`.trim(),
    inputs,
    outputs,
    metadata: Object.fromEntries(model.metadataProps.map((entry) => [entry.key, entry.value])),
    externalFiles: externalFiles(graph),
  }
}

function decode(bytes: Uint8Array): ModelProto {
  if (bytes.length === 0) throw new OnnxError('the file is empty')
  let model: ModelProto
  try {
    model = fromBinary(ModelProtoSchema, bytes)
  } catch (cause) {
    throw new OnnxError('the file is not an ONNX model, or it is truncated', { cause })
  }
  if (model.irVersion === 0n && model.graph === undefined) throw new OnnxError('the file is not an ONNX model')
  if (model.irVersion < 3n) throw new OnnxError(`IR version ${model.irVersion} is not supported: 3 or newer is needed`)
  return model
}

function readOpsets(model: ModelProto): Readonly<Record<string, number>> {
  const opsets = new Map<string, number>()
  for (const { domain: written, version } of model.opsetImport) {
    const domain = written === 'ai.onnx' ? '' : written
    if (opsets.has(domain)) throw new OnnxError(`the operator set of domain ${quote(domain)} is imported twice`)
    if (version < 1n) throw new OnnxError(`the operator set of domain ${quote(domain)} has no version`)
    opsets.set(domain, Number(version))
  }
  if (opsets.size === 0) throw new OnnxError('the model imports no operator set')
  return Object.fromEntries(opsets)
}

function readValue(kind: 'input' | 'output', { name, type }: ValueInfo): TensorSpec {
  const value = type?.value
  if (value?.case === undefined) throw new OnnxError(`${kind} ${quote(name)} has no type`)
  if (value.case !== 'tensorType') {
    const what = {
      sequenceType: 'a sequence',
      mapType: 'a map',
      sparseTensorType: 'a sparse tensor',
      optionalType: 'optional',
    }
    const advice = value.case === 'sequenceType' || value.case === 'mapType' ? ' (convert with zipmap off)' : ''
    throw new OnnxError(`${kind} ${quote(name)} is ${what[value.case]}; only tensors can be served${advice}`)
  }
  const datatype = fromOnnx(value.value.elemType)
  if (datatype === undefined) {
    throw new OnnxError(`${kind} ${quote(name)} has element type ${value.value.elemType}, which cannot be served`)
  }
  if (value.value.shape === undefined) throw new OnnxError(`${kind} ${quote(name)} has no shape`)
  const shape = value.value.shape.dim.map((dimension) => readDimension(kind, name, dimension.value))
  return { name, datatype, shape }
}

function readDimension(kind: string, name: string, dimension: { case?: string | undefined; value?: unknown }): number {
  if (dimension.case !== 'dimValue') return -1
  const size = Number(dimension.value)
  if (size < 0) throw new OnnxError(`${kind} ${quote(name)} has a dimension of ${size}`)
  return size
}

function externalFiles(graph: Graph): readonly string[] {
  const files = new Set<string>()
  for (const tensor of graph.initializer) {
    if (tensor.dataLocation !== TensorProto_DataLocation.EXTERNAL) continue
    const location = tensor.externalData.find((entry) => entry.key === 'location')?.value
    if (!location) throw new OnnxError(`initializer ${quote(tensor.name)} does not say which file holds it`)
    if (location.startsWith('/') || location.split('/').includes('..')) {
      throw new OnnxError(`initializer ${quote(tensor.name)} lies outside the model's folder`)
    }
    files.add(location)
  }
  return [...files].sort()
}
