/** Requests that are wrong in as many ways as come to mind, the same ones for the same seed. */
import { create, toBinary } from '@bufbuild/protobuf'
import {
  type InferParameter,
  InferParameterSchema,
  type InferTensorContents,
  InferTensorContentsSchema,
  ModelInferRequest_InferInputTensorSchema as InputSchema,
  type ModelInferRequest,
  ModelInferRequestSchema,
  ModelInferRequest_InferRequestedOutputTensorSchema as OutputSchema,
} from '@slipway/proto/inference/grpc_service'
import { FUZZ_MODEL, fuzzTensors } from './fuzz-model.ts'

/** Numbers by chance, the same ones for the same seed (mulberry32). */
export class Chance {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** At least 0, below 1. */
  fraction(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let value = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61)
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32
  }

  /** An integer from 0 to `below - 1`. */
  below(below: number): number {
    return Math.floor(this.fraction() * below)
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)] as T
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)))
  }
}

/** A request that must be answered, raw or typed as far as it can be, with the bytes that come back for it. */
export function goodRequest(chance: Chance): { request: ModelInferRequest; expected: readonly Buffer[] } {
  const rows = chance.below(5)
  const request = create(ModelInferRequestSchema, { modelName: FUZZ_MODEL, id: `id-${chance.below(1000)}` })
  const expected: Buffer[] = []
  for (const { name, datatype, row } of fuzzTensors) {
    const count = row.reduce((product, size) => product * size, rows)
    request.inputs.push(create(InputSchema, { name, datatype, shape: [rows, ...row].map(BigInt) }))
    expected.push(Buffer.concat(Array.from({ length: count }, () => element(datatype, chance))))
  }
  if (chance.below(4) > 0) request.rawInputContents = [...expected]
  else
    for (const [index, input] of request.inputs.entries())
      input.contents = typed(input.datatype, expected[index] as Buffer)
  if (chance.below(3) === 0)
    request.outputs = fuzzTensors.map(({ name }) => create(OutputSchema, { name: `${name}_out` }))
  if (chance.below(4) === 0) request.parameters.priority = parameter({ case: 'uint64Param', value: 1n })
  return { request, expected }
}

function element(datatype: string, chance: Chance): Buffer {
  if (datatype === 'BOOL') return Buffer.of(chance.below(2))
  if (datatype === 'BYTES') {
    const text = chance.pick(['', 'a', 'größer', '日本'])
    const length = Buffer.alloc(4)
    length.writeUInt32LE(Buffer.byteLength(text))
    return Buffer.concat([length, Buffer.from(text)])
  }
  if (datatype === 'FP32') {
    const number = Buffer.alloc(4)
    number.writeFloatLE(chance.fraction() - 0.5)
    return number
  }
  return chance.bytes({ INT64: 8, INT8: 1, UINT16: 2 }[datatype] ?? 0)
}

/** The values of a raw tensor in their typed form. */
function typed(datatype: string, raw: Buffer): InferTensorContents {
  const every = <T>(bytes: number, read: (at: number) => T): T[] =>
    Array.from({ length: raw.length / bytes }, (_, index) => read(index * bytes))
  const contents = create(InferTensorContentsSchema)
  if (datatype === 'FP32') contents.fp32Contents = every(4, (at) => raw.readFloatLE(at))
  else if (datatype === 'INT64') contents.int64Contents = every(8, (at) => raw.readBigInt64LE(at))
  else if (datatype === 'BOOL') contents.boolContents = every(1, (at) => raw[at] === 1)
  else if (datatype === 'INT8') contents.intContents = every(1, (at) => raw.readInt8(at))
  else if (datatype === 'UINT16') contents.uintContents = every(2, (at) => raw.readUInt16LE(at))
  else {
    for (let at = 0; at < raw.length; at += 4 + raw.readUInt32LE(at)) {
      contents.bytesContents.push(raw.subarray(at + 4, at + 4 + raw.readUInt32LE(at)))
    }
  }
  return contents
}

/** The next request: a good one, changed as a message, as bytes, or both. */
export function nextRequest(chance: Chance): Buffer {
  const { request } = goodRequest(chance)
  const kind = chance.below(10)
  if (kind < 6) for (let count = 1 + chance.below(2); count > 0; count--) chance.pick(changes)(request, chance)
  let bytes: Buffer = Buffer.from(toBinary(ModelInferRequestSchema, request))
  if (kind >= 5) for (let count = 1 + chance.below(3); count > 0; count--) bytes = chance.pick(damages)(bytes, chance)
  return bytes
}

type Change = (request: ModelInferRequest, chance: Chance) => void

const oddTexts = [
  '',
  ' ',
  'nope',
  'FP64',
  'INT32',
  'BF16',
  'STRING',
  'values',
  'label_out',
  '\0',
  '日本',
  'x'.repeat(3000),
]
const oddSizes = [-1n, 0n, 1n, 3n, 5n, 2n ** 31n, 2n ** 53n, 2n ** 63n - 1n, -(2n ** 63n)]

/** An input of the request, or one that is not in it where all were taken away. */
const anyInput = (request: ModelInferRequest, chance: Chance) =>
  request.inputs.length > 0 ? chance.pick(request.inputs) : create(InputSchema)

/** Gives a message other values. */
const set = <T extends object>(message: T, values: Partial<T>): void => void Object.assign(message, values)

/** Ways to make a request wrong; some leave it right. */
const changes: readonly Change[] = [
  (request, chance) => set(request, { modelName: chance.pick(oddTexts) }),
  (request, chance) => set(request, { modelVersion: chance.pick(['1', '2', '01', '-1', 'latest', 'x'.repeat(3000)]) }),
  (request, chance) => set(request, { id: chance.pick(['', '日本', 'a\0b', 'x'.repeat(1024), 'x'.repeat(1025)]) }),
  (request, chance) => set(anyInput(request, chance), { name: chance.pick(oddTexts) }),
  (request, chance) => set(anyInput(request, chance), { datatype: chance.pick(oddTexts) }),
  (request, chance) => void anyInput(request, chance).shape.push(chance.pick(oddSizes)),
  (request, chance) => void anyInput(request, chance).shape.splice(chance.below(2), 1, chance.pick(oddSizes)),
  (request, chance) => void anyInput(request, chance).shape.pop(),
  (request, chance) => void request.inputs.splice(chance.below(6), 1),
  (request, chance) => void request.inputs.push(anyInput(request, chance)),
  (request) => void request.inputs.reverse(),
  (request, chance) => void request.rawInputContents.splice(chance.below(6), 1),
  (request, chance) => void request.rawInputContents.push(chance.bytes(chance.below(9))),
  (request, chance) => void request.rawInputContents.splice(chance.below(6), 1, chance.bytes(chance.below(40))),
  (request) => set(request, { rawInputContents: [] }),
  (request, chance) => {
    const at = chance.below(6)
    const raw = request.rawInputContents[at]
    if (raw !== undefined && raw.length > 0) {
      const changed = Buffer.from(raw)
      changed[chance.below(raw.length)] = chance.below(256)
      request.rawInputContents[at] = changed
    }
  },
  (request, chance) => set(anyInput(request, chance), { contents: create(InferTensorContentsSchema) }),
  (request, chance) => {
    const contents = create(InferTensorContentsSchema)
    const field = chance.pick([
      'fp32Contents',
      'intContents',
      'boolContents',
      'bytesContents',
      'int64Contents',
    ] as const)
    const values = {
      fp32Contents: 0.5,
      intContents: 300,
      boolContents: true,
      bytesContents: Buffer.of(255),
      int64Contents: 1n,
    }
    Object.assign(contents, { [field]: Array.from({ length: chance.below(4) }, () => values[field]) })
    anyInput(request, chance).contents = contents
    if (chance.below(2) === 0) request.rawInputContents = []
  },
  (request, chance) => void request.outputs.push(create(OutputSchema, { name: chance.pick(oddTexts) })),
  (request, chance) =>
    void request.outputs.push(create(OutputSchema, { name: `${chance.pick(fuzzTensors).name}_out` })),
  (request, chance) => {
    const name = chance.pick(['classification', 'shared_memory_region', 'binary_data_output', 'mine'])
    const tensors = [...request.inputs, ...request.outputs]
    if (tensors.length > 0) chance.pick(tensors).parameters[name] = anyParameter(chance)
  },
  (request, chance) => {
    const names = [
      'priority',
      'timeout',
      'sequence_id',
      'triton_other',
      'triton_enable_empty_final_response',
      'mine',
      '',
    ]
    request.parameters[chance.pick(names)] = anyParameter(chance)
  },
]

function anyParameter(chance: Chance): InferParameter {
  return parameter(
    chance.pick<InferParameter['parameterChoice']>([
      { case: 'boolParam', value: false },
      { case: 'int64Param', value: chance.pick([-1n, 0n, 5n, 60_000_000n, -(2n ** 63n)]) },
      { case: 'uint64Param', value: chance.pick([0n, 1n, 2n ** 64n - 1n]) },
      { case: 'stringParam', value: chance.pick(oddTexts) },
      { case: 'doubleParam', value: chance.pick([Number.NaN, -1, 0.5, 1e300, Number.POSITIVE_INFINITY]) },
      { case: undefined },
    ]),
  )
}

function parameter(parameterChoice: InferParameter['parameterChoice']): InferParameter {
  return create(InferParameterSchema, { parameterChoice })
}

type Damage = (bytes: Buffer, chance: Chance) => Buffer

/** Puts `piece` where `length` bytes were from `at` on. */
const splice = (bytes: Buffer, at: number, length: number, piece: Buffer): Buffer =>
  Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at + length)])

/** Ways to damage the bytes of a request. */
const damages: readonly Damage[] = [
  (bytes, chance) => splice(bytes, chance.below(bytes.length), 1, Buffer.of(chance.below(256))),
  (bytes, chance) => {
    const at = chance.below(bytes.length)
    return splice(bytes, at, 1, Buffer.of((bytes[at] ?? 0) ^ (1 << chance.below(8))))
  },
  (bytes, chance) => splice(bytes, chance.below(bytes.length), 0, chance.bytes(1 + chance.below(8))),
  (bytes, chance) => splice(bytes, chance.below(bytes.length), 1 + chance.below(16), Buffer.alloc(0)),
  (bytes, chance) => bytes.subarray(0, chance.below(bytes.length)),
  (bytes, chance) => {
    const from = chance.below(bytes.length)
    return splice(bytes, chance.below(bytes.length), 0, Buffer.from(bytes.subarray(from, from + chance.below(64))))
  },
  (bytes, chance) => splice(bytes, chance.below(bytes.length), 1, Buffer.of(0xff, 0xff, 0xff, 0xff, chance.below(256))),
  (bytes, chance) => splice(bytes, chance.below(bytes.length), 0, Buffer.alloc(chance.below(12), 0x80)),
  (bytes, chance) => Buffer.concat([bytes, chance.bytes(chance.below(32))]),
  (_, chance) => chance.bytes(chance.below(64)),
]
