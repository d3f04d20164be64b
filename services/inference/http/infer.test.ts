import type { Datatype } from '@slipway/onnx'
import { buildModel, datatypeBytes, identityModel } from '@slipway/onnx'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { binaryBody, type HttpTestServer, rawBytes, serveHttp, splitReply } from './http-server.fixture.ts'

interface Sample {
  readonly datatype: Datatype
  /** Values as they stand in JSON text. */
  readonly text: (index: number) => string
  readonly raw: (count: number) => Buffer
}

const numbers = (
  datatype: Datatype,
  text: Sample['text'],
  write: (view: DataView, at: number, index: number) => void,
) => {
  const size = datatypeBytes(datatype)
  return {
    datatype,
    text,
    raw: (count: number) => {
      const buffer = Buffer.alloc(count * size)
      const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length)
      for (let index = 0; index < count; index++) write(view, index * size, index)
      return buffer
    },
  }
}
const texts = ['', 'ä', 'two "words"', '日本', 'a\\b\n']
const word = (index: number): string => texts[index % texts.length] ?? ''
const prefixed = (value: Buffer): Buffer => Buffer.concat([Buffer.of(value.length, 0, 0, 0), value])

const samples: readonly Sample[] = [
  numbers(
    'BOOL',
    (i) => String(i % 2 === 1),
    (view, at, i) => view.setUint8(at, i % 2),
  ),
  numbers(
    'INT8',
    (i) => String(~i),
    (view, at, i) => view.setInt8(at, ~i),
  ),
  numbers(
    'INT16',
    (i) => String(300 * ~i),
    (view, at, i) => view.setInt16(at, 300 * ~i, true),
  ),
  numbers(
    'INT32',
    (i) => String(70_000 * ~i),
    (view, at, i) => view.setInt32(at, 70_000 * ~i, true),
  ),
  numbers(
    'INT64',
    (i) => String(-(2n ** 62n) + BigInt(i)),
    (view, at, i) => view.setBigInt64(at, -(2n ** 62n) + BigInt(i), true),
  ),
  numbers(
    'UINT8',
    (i) => String(255 - i),
    (view, at, i) => view.setUint8(at, 255 - i),
  ),
  numbers(
    'UINT16',
    (i) => String(65_535 - i),
    (view, at, i) => view.setUint16(at, 65_535 - i, true),
  ),
  numbers(
    'UINT32',
    (i) => String(2 ** 32 - 1 - i),
    (view, at, i) => view.setUint32(at, 2 ** 32 - 1 - i, true),
  ),
  numbers(
    'UINT64',
    (i) => String(2n ** 64n - 1n - BigInt(i)),
    (view, at, i) => view.setBigUint64(at, 2n ** 64n - 1n - BigInt(i), true),
  ),
  numbers(
    'FP32',
    (i) => String(Math.fround(i / 3)),
    (view, at, i) => view.setFloat32(at, i / 3, true),
  ),
  numbers(
    'FP64',
    (i) => String(i / 3),
    (view, at, i) => view.setFloat64(at, i / 3, true),
  ),
  {
    datatype: 'BYTES',
    text: (index) => JSON.stringify(word(index)),
    raw: (count) => Buffer.concat(Array.from({ length: count }, (_, index) => prefixed(Buffer.from(word(index))))),
  },
]
const half: Sample = numbers(
  'FP16',
  () => '1',
  (view, at, i) => view.setUint16(at, 0x3c00 + i, true),
)

const shapes = [
  { title: 'a scalar', declared: [], sent: [] },
  { title: 'no rows', declared: [-1], sent: [0] },
  { title: 'one row', declared: [-1], sent: [1] },
  { title: 'five rows', declared: [-1], sent: [5] },
  { title: 'a batch of rows', declared: [-1, 3], sent: [4, 3] },
  { title: 'a batch of no rows', declared: [-1, 3], sent: [0, 3] },
  { title: 'all dimensions dynamic', declared: [-1, -1, -1], sent: [2, 3, 2] },
  { title: 'a fixed shape', declared: [2, 2], sent: [2, 2] },
] as const

const countOf = (shape: readonly number[]) => shape.reduce((product, size) => product * size, 1)

/** Values nested as a shape says, as text. */
function nested(shape: readonly number[], text: (index: number) => string): string {
  let at = 0
  const level = (axis: number): string => {
    if (axis === shape.length) return text(at++)
    return `[${Array.from({ length: shape[axis] ?? 0 }, () => level(axis + 1)).join(',')}]`
  }
  return level(0)
}

const flat = (count: number, text: (index: number) => string) =>
  `[${Array.from({ length: count }, (_, i) => text(i)).join(',')}]`

let server: HttpTestServer
beforeAll(async () => {
  server = await serveHttp([
    { model: 'fp32', bytes: identityModel('FP32') },
    { model: 'fp64', bytes: identityModel('FP64') },
    { model: 'int64', bytes: identityModel('INT64') },
    { model: 'two', bytes: twoOutputs, digest: `sha256:${'a'.repeat(64)}` },
  ])
})
afterAll(() => server.stop())

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

describe.each([...samples, half])('$datatype', ({ datatype, raw, text }) => {
  test.each(shapes)('$title comes back as it went in, as JSON and as binary data', async ({ declared, sent }) => {
    const model = `id-${datatype.toLowerCase()}-${declared.length}-${sent.join('x')}`
    const count = countOf(sent)
    const served = await server.grpc.add({ model, bytes: identityModel(datatype, [...declared]) })
    const head = { name: 'input', datatype, shape: sent }
    const expected = { name: 'output', datatype, shape: sent }
    try {
      const size = { parameters: { binary_data_size: raw(count).length } }
      const asked = { id: 'x', inputs: [{ ...head, ...size }], parameters: { binary_data_output: true } }
      const { body, headers } = binaryBody(asked, raw(count))
      const binary = await server.post(`/v2/models/${model}/infer`, body, headers)
      expect(binary.status).toBe(200)
      expect(splitReply(binary).json).toMatchObject({
        model_name: model,
        model_version: '1',
        id: 'x',
        outputs: [{ ...expected, ...size }],
      })
      expect(splitReply(binary).binary.toString('hex')).toBe(raw(count).toString('hex'))
      if (datatype === 'FP16') return
      for (const data of [flat(count, text), nested(sent, text)]) {
        const json = `{"inputs":[{"name":"input","datatype":"${datatype}","shape":[${sent}],"data":${data}}]}`
        const answer = await server.post(`/v2/models/${model}/versions/1/infer`, json)
        expect(answer.headers.get('content-type')).toBe('application/json')
        expect(answer.text).toContain(`"data":${flat(count, text)}`)
        expect(answer.json).toMatchObject({ outputs: [expected] })
      }
    } finally {
      server.grpc.models.set(model, '1', undefined)
      await served.close()
    }
  })
})

describe('the outputs of an answer', () => {
  const inputs = [
    { name: 'b', datatype: 'INT64', shape: [1], data: [12] },
    { name: 'a', datatype: 'FP32', shape: [1, 2], data: [[0.5, 2]] },
  ]
  const ask = async (change: object) => splitReply(await server.post('/v2/models/two/infer', { inputs, ...change }))

  test('are all of them, with the digest of the version that ran', async () => {
    expect((await ask({})).json).toEqual({
      model_name: 'two',
      model_version: '1',
      parameters: { slipway_digest: `sha256:${'a'.repeat(64)}` },
      outputs: [
        { name: 'a2', datatype: 'FP32', shape: [1, 2], data: [0.5, 2] },
        { name: 'b2', datatype: 'INT64', shape: [1], data: [12] },
      ],
    })
  })

  test('are those asked for in the order asked for, each in its own form', async () => {
    const outputs = [{ name: 'b2' }, { name: 'a2', parameters: { binary_data: true } }]
    const { json, binary } = await ask({ outputs })
    expect(json).toMatchObject({
      outputs: [
        { name: 'b2', data: [12] },
        { name: 'a2', parameters: { binary_data_size: 8 } },
      ],
    })
    expect([binary.readFloatLE(0), binary.readFloatLE(4), binary.length]).toEqual([0.5, 2, 8])
  })

  test('are binary data when the request says so, but not the one that says otherwise', async () => {
    const outputs = [{ name: 'a2' }, { name: 'b2', parameters: { binary_data: false } }]
    const { json, binary } = await ask({ outputs, parameters: { binary_data_output: true } })
    expect(json).toMatchObject({ outputs: [{ parameters: { binary_data_size: 8 } }, { data: [12] }] })
    expect(binary.length).toBe(8)
  })

  test('may come from inputs of both forms', async () => {
    const [b, a] = inputs
    const mixed = { inputs: [{ ...b, data: undefined, parameters: { binary_data_size: 8 } }, a] }
    const { body, headers } = binaryBody(mixed, Buffer.from(BigInt64Array.of(7n).buffer))
    const answer = await server.post('/v2/models/two/infer', body, headers)
    expect(answer.json).toMatchObject({ outputs: [{ data: [0.5, 2] }, { data: [7] }] })
  })
})

describe('what JSON cannot say', () => {
  const infer = (model: string, datatype: string, data: string) => {
    const count = JSON.parse(data).length
    return server.post(
      `/v2/models/${model}/infer`,
      `{"inputs":[{"name":"input","datatype":"${datatype}","shape":[${count}],"data":${data}}]}`,
    )
  }

  test('NaN and infinities go in as words and come out as null; a zero keeps its sign', async () => {
    for (const datatype of ['FP32', 'FP64']) {
      const answer = await infer(datatype.toLowerCase(), datatype, '["NaN","Infinity","-Infinity",-0.0,1.5]')
      expect(answer.text).toContain('"data":[null,null,null,-0.0,1.5]')
    }
  })

  test('an integer that a number cannot hold keeps its digits, also behind others and in an array of arrays', async () => {
    const digits = '[9007199254740991,9007199254740993,-9223372036854775808,0,12,9223372036854775807]'
    expect((await infer('int64', 'INT64', digits)).text).toContain(`"data":${digits}`)
  })

  test.each([
    ['fp32', 'FP32', '[1e39]'],
    ['fp32', 'FP32', '[null]'],
    ['fp32', 'FP32', '["1"]'],
    ['fp64', 'FP64', '[1e400]'],
    ['int64', 'INT64', '[1.5]'],
    ['int64', 'INT64', '[9223372036854775808]'],
    ['int64', 'INT64', '[1e18]'],
    ['int64', 'INT64', '["1"]'],
  ])('%s: %s %s is refused', async (model, datatype, data) => {
    const answer = await infer(model, datatype, data)
    expect([answer.status, answer.json]).toMatchObject([400, { reason: 'INVALID_TENSOR', field: 'inputs[0].data[0]' }])
  })
})

test('any numbers give over HTTP, in both forms, what they give over gRPC', async () => {
  const number = fc.oneof(fc.float({ noNaN: true, noDefaultInfinity: true }), fc.constant(-0), fc.integer())
  await fc.assert(
    fc.asyncProperty(
      fc.array(number, { maxLength: 40 }),
      fc.string({ unit: 'grapheme' }),
      fc.boolean(),
      async (values, id, isBinary) => {
        const raw = Buffer.from(Float32Array.from(values).buffer)
        const shape = [values.length]
        const input = { name: 'input', datatype: 'FP32', shape: shape.map(BigInt) }
        const expected = await server.grpc.client.modelInfer({
          modelName: 'fp32',
          id,
          inputs: [input],
          rawInputContents: [raw],
        })
        const data = values.map((value) => (Object.is(value, -0) ? '-0' : String(value)))
        const answer = await server.post(
          '/v2/models/fp32/infer',
          `{"id":${JSON.stringify(id)},"parameters":{"binary_data_output":${isBinary}},"inputs":[{"name":"input","datatype":"FP32","shape":[${shape}],"data":[${data}]}]}`,
        )
        const { json, binary } = splitReply(answer)
        const [output] = (json as { outputs: { data?: number[] }[] }).outputs
        const got = isBinary ? binary : Buffer.from(Float32Array.from(output?.data ?? []).buffer)
        expect(got.toString('hex')).toBe(rawBytes(expected).toString('hex'))
        expect((json as { id?: string }).id ?? '').toBe(expected.id)
      },
    ),
    { numRuns: 150 },
  )
})

test('a version that was let go is loaded again for a caller over HTTP', async () => {
  const own = await serveHttp([{ model: 'm', bytes: identityModel('FP32', [-1]) }])
  const { models } = own.grpc
  const served = models.resolve('m', '1')
  models.set('m', '1', { kind: 'unloaded', unloadedTimeMs: Date.now() })
  models.loadMissingWith(async () => {
    models.set('m', '1', { kind: 'ready', served, readyTimeMs: Date.now() })
    return served
  })
  const input = { name: 'input', datatype: 'FP32', shape: [2], data: [1, 2] }
  expect((await own.get('/v2/models/m/stats')).status).toBe(200)
  expect((await own.post('/v2/models/m/infer', { inputs: [input] })).json).toMatchObject({
    outputs: [{ data: [1, 2] }],
  })
  await own.stop()
})
