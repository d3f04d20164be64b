import { type GraphProto, type NodeProto, type TensorProto, TensorProto_DataLocation } from '@slipway/proto/onnx/onnx'
import { datatypeBytes, fromOnnx } from './datatype.ts'
import { OnnxError, quote } from './model.ts'

const MAX_GRAPH_DEPTH = 32

interface Scope {
  readonly opsets: Readonly<Record<string, number>>
  /** `domain/name` of the operators that the model defines itself. */
  readonly functions: ReadonlySet<string>
  /** Names that graphs around this one define. */
  readonly outer?: ReadonlySet<string>
  readonly depth?: number
}

/**
 * Checks what can be checked without knowing the operators: names are there and unique, every value is defined before it
 * is used, every operator's domain is imported, constants have the bytes that their shape asks for. Throws OnnxError.
 */
export function checkGraph(graph: GraphProto, scope: Scope): void {
  const depth = scope.depth ?? 0
  if (depth > MAX_GRAPH_DEPTH) throw new OnnxError(`graphs are nested deeper than ${MAX_GRAPH_DEPTH}`)
  if (graph.output.length === 0) throw new OnnxError(`graph ${quote(graph.name)} has no output`)
  const known = new Set(scope.outer)
  const own = defineInputs(graph)
  for (const name of own) known.add(name)
  for (const node of graph.node) checkNode(node, { ...scope, depth }, known, own)
  for (const { name } of graph.output) {
    if (!known.has(name)) throw new OnnxError(`output ${quote(name)} is computed by no node`)
  }
  const outputs = new Set(graph.output.map((output) => output.name))
  if (outputs.size !== graph.output.length) throw new OnnxError('two outputs have the same name')
}

function defineInputs(graph: GraphProto): Set<string> {
  const own = new Set<string>()
  for (const { name } of graph.input) {
    if (name === '') throw new OnnxError('an input has no name')
    if (own.has(name)) throw new OnnxError(`two inputs are named ${quote(name)}`)
    own.add(name)
  }
  for (const tensor of graph.initializer) {
    checkInitializer(tensor)
    own.add(tensor.name)
  }
  for (const sparse of graph.sparseInitializer) {
    if (sparse.values?.name) own.add(sparse.values.name)
  }
  return own
}

function checkNode(node: NodeProto, scope: Scope, known: Set<string>, own: Set<string>): void {
  const label = `node ${quote(node.name || node.opType)}`
  if (node.opType === '') throw new OnnxError(`${label} has no operator`)
  const domain = node.domain === 'ai.onnx' ? '' : node.domain
  if (scope.opsets[domain] === undefined && !scope.functions.has(`${node.domain}/${node.opType}`)) {
    throw new OnnxError(`${label} uses operator set ${quote(domain || 'ai.onnx')}, which the model does not import`)
  }
  for (const input of node.input) {
    if (input !== '' && !known.has(input))
      throw new OnnxError(`${label} takes ${quote(input)}, which nothing before it gives`)
  }
  for (const attribute of node.attribute) {
    const graphs = attribute.g === undefined ? attribute.graphs : [attribute.g, ...attribute.graphs]
    for (const graph of graphs) checkGraph(graph, { ...scope, outer: known, depth: (scope.depth ?? 0) + 1 })
  }
  for (const output of node.output) {
    if (output === '') continue
    if (own.has(output)) throw new OnnxError(`${label} gives ${quote(output)}, which is defined already`)
    own.add(output)
    known.add(output)
  }
}

function checkInitializer(tensor: TensorProto): void {
  const label = `initializer ${quote(tensor.name)}`
  if (tensor.name === '') throw new OnnxError('an initializer has no name')
  if (tensor.dataType === 0) throw new OnnxError(`${label} has no element type`)
  if (tensor.dims.some((size) => size < 0n)) throw new OnnxError(`${label} has a negative dimension`)
  if (tensor.dataLocation === TensorProto_DataLocation.EXTERNAL || tensor.rawData.length === 0) return
  const datatype = fromOnnx(tensor.dataType)
  if (datatype === undefined) return
  const expected = Number(tensor.dims.reduce((product, size) => product * size, 1n)) * datatypeBytes(datatype)
  if (expected !== tensor.rawData.length) {
    throw new OnnxError(`${label} holds ${tensor.rawData.length} bytes where its shape needs ${expected}`)
  }
}
