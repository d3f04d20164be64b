import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import {
  ModelProtoSchema,
  StringStringEntryProtoSchema,
  TensorProto_DataLocation,
  TensorProto_DataType,
  TypeProtoSchema,
} from '@slipway/proto/onnx/onnx'
import { describe, expect, test } from 'vitest'
import { mlpModel, OnnxError, randomLayers, readModel } from './index.ts'

const good = mlpModel({ layers: randomLayers([4, 3, 1], 7) })

type Model = ReturnType<typeof load>
const load = () => fromBinary(ModelProtoSchema, good)

/** The good model after a change. */
function changed(change: (model: Model, graph: NonNullable<Model['graph']>) => unknown): Uint8Array {
  const model = load()
  if (model.graph === undefined) throw new Error('no graph')
  change(model, model.graph)
  return toBinary(ModelProtoSchema, model)
}

const write = (init: MessageInitShape<typeof ModelProtoSchema>) =>
  toBinary(ModelProtoSchema, create(ModelProtoSchema, init))

const assignAll = (items: readonly object[], change: object) => items.map((item) => Object.assign(item, change))

const COMPLEX64 = TensorProto_DataType.COMPLEX64
const sequence = { case: 'sequenceType', value: {} } as const
const outside = {
  dataLocation: TensorProto_DataLocation.EXTERNAL,
  externalData: [create(StringStringEntryProtoSchema, { key: 'location', value: '../../etc/passwd' })],
}

describe('readModel refuses', () => {
  const cases: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ['an empty file', new Uint8Array(), /empty/],
    ['text', Buffer.from('this is not a model, it is a sentence'), /not an ONNX model/],
    ['a model without a graph', write({ irVersion: 9n, opsetImport: [{ version: 21n }] }), /no graph/],
    ['a model without operator sets', changed((model) => model.opsetImport.pop()), /imports no operator set/],
    ['an old format', changed((model) => Object.assign(model, { irVersion: 2n })), /IR version 2/],
    [
      'an operator set without a version',
      changed((model) => assignAll(model.opsetImport, { version: 0n })),
      /no version/,
    ],
    ['an operator set imported twice', changed((model) => model.opsetImport.push(...model.opsetImport)), /twice/],
    ['a graph without outputs', changed((_, graph) => graph.output.pop()), /no output/],
    ['an output that no node gives', changed((_, graph) => graph.node.pop()), /'probability' is computed by no node/],
    ['a node that takes what nothing gives', changed((_, graph) => graph.node.shift()), /nothing before it gives/],
    [
      'two nodes that give the same',
      changed((_, graph) => graph.node.push(...graph.node.slice(-1))),
      /defined already/,
    ],
    [
      'an operator of another domain',
      changed((_, graph) => assignAll(graph.node, { domain: 'ai.onnx.ml' })),
      /'ai.onnx.ml'/,
    ],
    ['a node without an operator', changed((_, graph) => assignAll(graph.node, { opType: '' })), /no operator/],
    ['an input twice', changed((_, graph) => graph.input.push(...graph.input)), /two inputs/],
    ['an input without a type', changed((_, graph) => delete graph.input[0]?.type), /'features' has no type/],
    [
      'an output that is a sequence',
      changed((_, graph) => assignAll(graph.output, { type: create(TypeProtoSchema, { value: sequence }) })),
      /sequence.*zipmap/,
    ],
    [
      'an element type that no request can carry',
      changed((_, graph) => Object.assign(graph.input[0]?.type?.value.value ?? {}, { elemType: COMPLEX64 })),
      /element type 14/,
    ],
    [
      'weights of the wrong length',
      changed((_, graph) => assignAll(graph.initializer, { rawData: new Uint8Array(4) })),
      /4 bytes where/,
    ],
    ['weights in a file outside the folder', changed((_, graph) => assignAll(graph.initializer, outside)), /outside/],
  ]
  test.each(cases)('%s', (_, bytes, message) => {
    expect(() => readModel(bytes)).toThrow(message)
    expect(() => readModel(bytes)).toThrow(OnnxError)
  })

  test('every truncation, with a clear error and never another exception', () => {
    for (let length = 0; length < good.length; length++) {
      try {
        readModel(good.subarray(0, length))
      } catch (error) {
        expect(error).toBeInstanceOf(OnnxError)
        continue
      }
      // What follows the graph is metadata, operator sets come before: nothing shorter may pass.
      expect.unreachable(`${length} of ${good.length} bytes were taken for a model`)
    }
  })
})

test('constants that an old file lists among its inputs are not inputs', () => {
  const bytes = changed((_, graph) => {
    const [input] = graph.input
    const [constant] = graph.initializer
    if (input && constant) graph.input.push({ ...input, name: constant.name })
  })
  expect(readModel(bytes).inputs.map((input) => input.name)).toEqual(['features'])
})
