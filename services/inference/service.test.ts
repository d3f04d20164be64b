import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { buildModel, type Datatype, datatypeBytes, identityModel, mlpModel, randomLayers } from '@slipway/onnx'
import { type InferTensorContentsSchema, ModelInferRequestSchema } from '@slipway/proto/inference/grpc_service'
import { Code } from '@slipway/rpc'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { serve, type TestModel, type TestServer } from './testing.ts'

type Contents = MessageInitShape<typeof InferTensorContentsSchema>
type Request = MessageInitShape<typeof ModelInferRequestSchema>

interface Sample {
  readonly datatype: Datatype
  /** Raw bytes of one element after another, as many as are asked for. */
  readonly raw: (count: number) => Buffer
  /** The same values in typed form, where there is one. */
  readonly typed?: (count: number) => Contents
}

const numbers = (
  datatype: Datatype,
  write: (view: DataView, at: number, index: number) => void,
  typed?: Sample['typed'],
): Sample => ({
  datatype,
  raw: (count) => {
    const buffer = Buffer.alloc(count * datatypeBytes(datatype))
    const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length)
    for (let index = 0; index < count; index++) write(view, index * datatypeBytes(datatype), index)
    return buffer
  },
  ...(typed ? { typed } : {}),
})
const list = <T>(count: number, value: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => value(index))
const texts = ['', 'ä', 'two words', '日本']
const text = (index: number): Buffer => Buffer.from(texts[index % texts.length] ?? '')
const prefixed = (value: Buffer): Buffer => Buffer.concat([Buffer.of(value.length, 0, 0, 0), value])

const samples: readonly Sample[] = [
  numbers(
    'BOOL',
    (view, at, i) => view.setUint8(at, i % 2),
    (n) => ({ boolContents: list(n, (i) => i % 2 === 1) }),
  ),
  numbers(
    'INT8',
    (view, at, i) => view.setInt8(at, ~i),
    (n) => ({ intContents: list(n, (i) => ~i) }),
  ),
  numbers(
    'INT16',
    (view, at, i) => view.setInt16(at, 300 * ~i, true),
    (n) => ({ intContents: list(n, (i) => 300 * ~i) }),
  ),
  numbers(
    'INT32',
    (view, at, i) => view.setInt32(at, 70_000 * ~i, true),
    (n) => ({ intContents: list(n, (i) => 70_000 * ~i) }),
  ),
  numbers(
    'INT64',
    (view, at, i) => view.setBigInt64(at, -(2n ** 62n) + BigInt(i), true),
    (n) => ({
      int64Contents: list(n, (i) => -(2n ** 62n) + BigInt(i)),
    }),
  ),
  numbers(
    'UINT8',
    (view, at, i) => view.setUint8(at, 255 - i),
    (n) => ({ uintContents: list(n, (i) => 255 - i) }),
  ),
  numbers(
    'UINT16',
    (view, at, i) => view.setUint16(at, 65_535 - i, true),
    (n) => ({ uintContents: list(n, (i) => 65_535 - i) }),
  ),
  numbers(
    'UINT32',
    (view, at, i) => view.setUint32(at, 2 ** 32 - 1 - i, true),
    (n) => ({
      uintContents: list(n, (i) => 2 ** 32 - 1 - i),
    }),
  ),
  numbers(
    'UINT64',
    (view, at, i) => view.setBigUint64(at, 2n ** 64n - 1n - BigInt(i), true),
    (n) => ({
      uint64Contents: list(n, (i) => 2n ** 64n - 1n - BigInt(i)),
    }),
  ),
  numbers('FP16', (view, at, i) => view.setUint16(at, 0x3c00 + i, true)),
  numbers(
    'FP32',
    (view, at, i) => view.setFloat32(at, i / 3, true),
    (n) => ({ fp32Contents: list(n, (i) => Math.fround(i / 3)) }),
  ),
  numbers(
    'FP64',
    (view, at, i) => view.setFloat64(at, i / 3, true),
    (n) => ({ fp64Contents: list(n, (i) => i / 3) }),
  ),
  {
    datatype: 'BYTES',
    raw: (count) => Buffer.concat(list(count, (i) => prefixed(text(i)))),
    typed: (count) => ({ bytesContents: list(count, text) }),
  },
]

/** What the model declares, and what a request sends. */
const shapes: readonly {
  readonly title: string
  readonly declared: readonly number[]
  readonly sent: readonly number[]
}[] = [
  { title: 'a scalar', declared: [], sent: [] },
  { title: 'no rows', declared: [-1], sent: [0] },
  { title: 'one row', declared: [-1], sent: [1] },
  { title: 'five rows', declared: [-1], sent: [5] },
  { title: 'a batch of rows', declared: [-1, 3], sent: [4, 3] },
  { title: 'a batch of no rows', declared: [-1, 3], sent: [0, 3] },
  { title: 'all dimensions dynamic', declared: [-1, -1, -1], sent: [2, 3, 2] },
  { title: 'a fixed shape', declared: [2, 2], sent: [2, 2] },
]

const nameOf = (datatype: Datatype, declared: readonly number[]) =>
  `id-${datatype.toLowerCase()}-${declared.map((size) => (size < 0 ? 'n' : size)).join('-')}`

const twoOutputs = buildModel({
  name: 'two',
  inputs: [
    { name: 'a', datatype: 'FP32', shape: [-1, 2] },
    { name: 'b', datatype: 'INT64', shape: [-1] },
  ],
  outputs: [
    { name: 'a2', datatype: 'FP32', shape: [-1, 2] },
    { name: 'b2', datatype: 'INT64', shape: [-1] },
  ],
  nodes: [
    { operator: 'Identity', inputs: ['a'], outputs: ['a2'] },
    { operator: 'Identity', inputs: ['b'], outputs: ['b2'] },
  ],
})

let server: TestServer

beforeAll(async () => {
  server = await serve([
    { model: 'mlp', bytes: mlpModel({ layers: randomLayers([16, 8, 1], 1) }), digest: `sha256:${'a'.repeat(64)}` },
    { model: 'two', bytes: twoOutputs },
  ])
})
afterAll(() => server.stop())

/** Serves a model for the time of one test. */
async function withModel<T>(model: TestModel, act: () => Promise<T>): Promise<T> {
  const served = await server.add(model)
  try {
    return await act()
  } finally {
    server.models.set(served.model, served.number, undefined)
    await served.close()
  }
}

describe.each(samples)('$datatype', ({ datatype, raw, typed }) => {
  test.each(shapes)('$title comes back as it went in, raw and typed', async ({ declared, sent }) => {
    const model = nameOf(datatype, declared)
    const count = sent.reduce((product, size) => product * size, 1)
    const input = { name: 'input', datatype, shape: sent.map(BigInt) }
    await withModel({ model, bytes: identityModel(datatype, declared) }, async () => {
      const expected = raw(count).toString('hex')
      const answers = [
        await server.client.modelInfer({ modelName: model, id: 'x', inputs: [input], rawInputContents: [raw(count)] }),
      ]
      if (typed) {
        answers.push(
          await server.client.modelInfer({ modelName: model, id: 'x', inputs: [{ ...input, contents: typed(count) }] }),
        )
      }
      for (const answer of answers) {
        expect(answer.id).toBe('x')
        expect(answer.modelVersion).toBe('1')
        expect(answer.outputs.map((output) => [output.name, output.datatype, output.shape])).toEqual([
          ['output', datatype, sent.map(BigInt)],
        ])
        expect(answer.outputs[0]?.contents).toBeUndefined()
        expect(answer.rawOutputContents.map((bytes) => Buffer.from(bytes).toString('hex'))).toEqual([expected])
      }
      if (!typed) return
      const outputs = [
        {
          name: 'output',
          parameters: { binary_data_output: { parameterChoice: { case: 'boolParam' as const, value: false } } },
        },
      ]
      const back = await server.client.modelInfer({
        modelName: model,
        inputs: [input],
        outputs,
        rawInputContents: [raw(count)],
      })
      expect(back.rawOutputContents).toEqual([])
      expect(back.outputs[0]?.contents).toMatchObject(typed(count))
    })
  })
})

describe('a request', () => {
  const features = { name: 'features', datatype: 'FP32', shape: [1n, 16n] }
  const row = Buffer.alloc(64)
  const good: Request = { modelName: 'mlp', inputs: [features], rawInputContents: [row] }
  const a = { name: 'a', datatype: 'FP32', shape: [1n, 2n] }
  const b = { name: 'b', datatype: 'INT64', shape: [1n] }

  test('is answered with the version and the digest that ran', async () => {
    const answer = await server.client.modelInfer({ ...good, id: 'größer' })
    expect(answer).toMatchObject({ modelName: 'mlp', modelVersion: '1', id: 'größer' })
    expect(answer.parameters.slipway_digest?.parameterChoice.value).toBe(`sha256:${'a'.repeat(64)}`)
  })

  test('may name its inputs in another order than the model, and gets the outputs it asks for in its order', async () => {
    const rawB = Buffer.alloc(8, 1)
    const rawA = Buffer.alloc(8, 2)
    const outputs = [{ name: 'b2' }, { name: 'a2' }]
    const answer = await server.client.modelInfer({
      modelName: 'two',
      inputs: [b, a],
      outputs,
      rawInputContents: [rawB, rawA],
    })
    expect(answer.outputs.map(({ name }) => name)).toEqual(['b2', 'a2'])
    expect(answer.rawOutputContents.map((bytes) => Buffer.from(bytes))).toEqual([rawB, rawA])
    const one = await server.client.modelInfer({
      modelName: 'two',
      inputs: [b, a],
      outputs: [{ name: 'a2' }],
      rawInputContents: [rawB, rawA],
    })
    expect(one.outputs.map(({ name }) => name)).toEqual(['a2'])
  })

  test('with an empty contents message beside raw data is answered', async () => {
    const answer = await server.client.modelInfer({ ...good, inputs: [{ ...features, contents: {} }] })
    expect(answer.rawOutputContents).toHaveLength(1)
  })

  const bool = { name: 'input', datatype: 'BOOL', shape: [1n] }
  const bytes = { name: 'input', datatype: 'BYTES', shape: [1n] }
  const refused: readonly (readonly [string, Request, Code, RegExp])[] = [
    [
      'of an unknown model',
      { ...good, modelName: 'nope' },
      Code.NOT_FOUND,
      /Request for unknown model: 'nope' is not found/,
    ],
    ['of an unknown version', { ...good, modelVersion: '7' }, Code.NOT_FOUND, /version 7 is not found/],
    ['of a name of 10,000 characters', { modelName: 'x'.repeat(10_000) }, Code.NOT_FOUND, /^.{0,300}$/],
    [
      'without inputs',
      { modelName: 'mlp' },
      Code.INVALID_ARGUMENT,
      /expected 1 inputs but got 0 inputs for model 'mlp'/,
    ],
    [
      'with an unknown input',
      { ...good, inputs: [{ ...features, name: 'x' }] },
      Code.INVALID_ARGUMENT,
      /unexpected inference input 'x'/,
    ],
    [
      'with one input twice',
      { modelName: 'two', inputs: [a, a], rawInputContents: [row, row] },
      Code.INVALID_ARGUMENT,
      /twice/,
    ],
    [
      'with another datatype',
      { ...good, inputs: [{ ...features, datatype: 'FP64' }] },
      Code.INVALID_ARGUMENT,
      /data-type is 'FP64'.*expects 'FP32'/,
    ],
    [
      'with another rank',
      { ...good, inputs: [{ ...features, shape: [16n] }] },
      Code.INVALID_ARGUMENT,
      /unexpected shape for input 'features'/,
    ],
    [
      'with another size',
      { ...good, inputs: [{ ...features, shape: [1n, 15n] }] },
      Code.INVALID_ARGUMENT,
      /Expected \[-1,16\], got \[1,15\]/,
    ],
    [
      'with a negative dimension',
      { ...good, inputs: [{ ...features, shape: [-1n, 16n] }] },
      Code.INVALID_ARGUMENT,
      /unexpected shape/,
    ],
    [
      'with an enormous dimension',
      { ...good, inputs: [{ ...features, shape: [2n ** 60n, 16n] }] },
      Code.INVALID_ARGUMENT,
      /unexpected shape/,
    ],
    [
      'with too few bytes',
      { ...good, rawInputContents: [row.subarray(1)] },
      Code.INVALID_ARGUMENT,
      /input byte size mismatch for input 'features'.*Expected 64, got 63/,
    ],
    [
      'with more tensors than inputs',
      { ...good, rawInputContents: [row, row] },
      Code.INVALID_ARGUMENT,
      /expected 1 raw input contents but got 2/,
    ],
    ['with no tensors', { ...good, rawInputContents: [] }, Code.INVALID_ARGUMENT, /0 values where its shape needs 16/],
    [
      'with typed and raw contents',
      { ...good, inputs: [{ ...features, contents: { fp32Contents: [1] } }] },
      Code.INVALID_ARGUMENT,
      /contents field must not be specified when using raw_input_contents for 'features' for model 'mlp'/,
    ],
    [
      'with values in the wrong field',
      { modelName: 'mlp', inputs: [{ ...features, contents: { intContents: list(16, () => 1) } }] },
      Code.INVALID_ARGUMENT,
      /another field/,
    ],
    [
      'for an unknown output',
      { ...good, outputs: [{ name: 'y' }] },
      Code.INVALID_ARGUMENT,
      /unexpected inference output 'y' for model 'mlp'/,
    ],
    [
      'for one output twice',
      { ...good, outputs: [{ name: 'probability' }, { name: 'probability' }] },
      Code.INVALID_ARGUMENT,
      /requested twice/,
    ],
    [
      'with a BOOL of 2',
      { modelName: 'bool', inputs: [bool], rawInputContents: [Buffer.of(2)] },
      Code.INVALID_ARGUMENT,
      /neither 0 nor 1/,
    ],
    [
      'with an INT8 of 300',
      { modelName: 'int8', inputs: [{ ...bool, datatype: 'INT8', contents: { intContents: [300] } }] },
      Code.INVALID_ARGUMENT,
      /300.*does not fit INT8/,
    ],
    [
      'with typed FP16',
      { modelName: 'fp16', inputs: [{ ...bool, datatype: 'FP16', contents: { fp32Contents: [1] } }] },
      Code.INVALID_ARGUMENT,
      /FP16.*no typed form/,
    ],
    [
      'with half a string length',
      { modelName: 'bytes', inputs: [bytes], rawInputContents: [Buffer.of(1, 0)] },
      Code.INVALID_ARGUMENT,
      /incomplete string length indicator/,
    ],
    [
      'with half a string',
      { modelName: 'bytes', inputs: [bytes], rawInputContents: [Buffer.of(2, 0, 0, 0, 65)] },
      Code.INVALID_ARGUMENT,
      /incomplete string data/,
    ],
    [
      'with two strings for one',
      { modelName: 'bytes', inputs: [bytes], rawInputContents: [Buffer.alloc(8)] },
      Code.INVALID_ARGUMENT,
      /expected 1 strings but got 2/,
    ],
    [
      'with a string that is not UTF-8',
      { modelName: 'bytes', inputs: [bytes], rawInputContents: [Buffer.of(1, 0, 0, 0, 255)] },
      Code.INVALID_ARGUMENT,
      /not UTF-8/,
    ],
    [
      'with a string that has a NUL',
      { modelName: 'bytes', inputs: [bytes], rawInputContents: [Buffer.of(1, 0, 0, 0, 0)] },
      Code.INVALID_ARGUMENT,
      /NUL/,
    ],
    ['with an id of 2,000 bytes', { ...good, id: 'x'.repeat(2000) }, Code.INVALID_ARGUMENT, /id is longer/],
    [
      'with shared memory',
      { ...good, inputs: [{ ...features, parameters: { shared_memory_region: {} } }] },
      Code.INVALID_ARGUMENT,
      /shared memory/,
    ],
  ]

  describe('is refused', () => {
    beforeAll(async () => {
      for (const datatype of ['BOOL', 'INT8', 'FP16', 'BYTES'] as const) {
        await server.add({ model: datatype.toLowerCase(), bytes: identityModel(datatype) })
      }
    })

    test.each(refused)('%s', async (_, request, code, message) => {
      await expect(server.client.modelInfer(request)).rejects.toMatchObject({
        code,
        message: expect.stringMatching(message),
      })
    })

    test.each(refused)('%s, as one message of a stream that goes on', async (_, request, code, message) => {
      const messages = [
        { ...request, id: request.id ?? 'bad' },
        { ...good, id: 'after' },
      ]
      const answers = []
      for await (const answer of server.client.modelStreamInfer(stream(messages))) answers.push(answer)
      const failed = answers.find(({ errorMessage }) => errorMessage !== '')
      expect(failed?.errorMessage).toMatch(message)
      expect(failed?.inferResponse?.parameters.error_code?.parameterChoice.value).toBe(BigInt(code))
      expect(answers.find(({ inferResponse }) => inferResponse?.id === 'after')?.errorMessage).toBe('')
    })
  })

  test('that names no field names it in the details', async () => {
    const request = { ...good, inputs: [{ ...features, shape: [1n, 15n] }] }
    await expect(server.client.modelInfer(request)).rejects.toMatchObject({
      violations: [{ field: 'inputs[0].shape' }],
    })
  })

  test('ends the stream with a status when the caller asks for that', async () => {
    const answers = server.client.modelStreamInfer(stream([{ ...good, modelName: 'nope' }]), {
      headers: { triton_grpc_error: 'true' },
    })
    await expect(answers[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: Code.NOT_FOUND })
  })
})

async function* stream(requests: readonly Request[]) {
  for (const request of requests) yield create(ModelInferRequestSchema, request)
}

describe('what the server says', () => {
  test('it is live and ready', async () => {
    expect(await server.client.serverLive({})).toMatchObject({ live: true })
    expect(await server.client.serverReady({})).toMatchObject({ ready: true })
    expect(await server.client.serverMetadata({})).toMatchObject({ name: 'slipway' })
  })

  test('a model that is there is ready, others are not', async () => {
    expect(await server.client.modelReady({ name: 'mlp' })).toMatchObject({ ready: true })
    expect(await server.client.modelReady({ name: 'mlp', version: '9' })).toMatchObject({ ready: false })
    expect(await server.client.modelReady({ name: 'nope' })).toMatchObject({ ready: false })
  })

  test('a model is described as its graph says', async () => {
    expect(await server.client.modelMetadata({ name: 'two' })).toMatchObject({
      name: 'two',
      versions: ['1'],
      inputs: [
        { name: 'a', datatype: 'FP32', shape: [-1n, 2n] },
        { name: 'b', datatype: 'INT64', shape: [-1n] },
      ],
    })
    await expect(server.client.modelMetadata({ name: 'nope' })).rejects.toMatchObject({ code: Code.NOT_FOUND })
  })
})
