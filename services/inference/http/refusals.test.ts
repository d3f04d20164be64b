import { identityModel, mlpModel, randomLayers } from '@slipway/onnx'
import { Code, Failure } from '@slipway/rpc'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { refusal } from '../refusals.ts'
import { statusOf } from './failures.ts'
import { binaryBody, type HttpTestServer, serveHttp } from './http-server.fixture.ts'

let server: HttpTestServer
beforeAll(async () => {
  const identities = (['FP32', 'FP16', 'BOOL', 'INT8', 'BYTES'] as const).map((datatype) => ({
    model: datatype.toLowerCase(),
    bytes: identityModel(datatype),
  }))
  server = await serveHttp(
    [
      ...identities,
      { model: 'mlp', bytes: mlpModel({ layers: randomLayers([4, 1], 1) }) },
      { model: 'matrix', bytes: identityModel('FP32', [-1, 3]) },
    ],
    { limits: { maxRequestBytes: 100_000, maxJsonBytes: 50_000, maxDiscardedBytes: 1_000_000 } },
  )
})
afterAll(async () => {
  expect(server.errors).toEqual([])
  await server.stop()
})

const input = (datatype: string, shape: readonly unknown[], data: unknown, more: object = {}) => ({
  inputs: [{ name: 'input', datatype, shape, data, ...more }],
})
const good = input('FP32', [1], [1])

describe('a prediction is refused', () => {
  test.each<[string, string, unknown, number, RegExp, (string | undefined)?]>([
    ['of an unknown model', 'nope', good, 404, /Request for unknown model: 'nope' is not found/],
    ['of an unknown version', 'fp32/versions/7', good, 404, /version 7 is not found/],
    ['of a name of 5,000 characters', 'x'.repeat(5000), good, 404, /^.{0,300}$/],
    ['without a body', 'fp32', '', 400, /not valid JSON/],
    ['that is no JSON', 'fp32', '{"inputs":[', 400, /not valid JSON/],
    ['that is not UTF-8', 'fp32', Buffer.from([0x22, 0xff, 0x22]), 400, /UTF-8/],
    ['that is a list', 'fp32', [], 400, /not a JSON object/],
    ['that is null', 'fp32', 'null', 400, /not a JSON object/],
    ['nested a hundred thousand deep', 'fp32', `${'['.repeat(24_000)}${']'.repeat(24_000)}`, 400, /not a JSON object/],
    ['without inputs', 'fp32', {}, 400, /inputs is not a list/, 'inputs'],
    ['with no input', 'fp32', { inputs: [] }, 400, /expected 1 inputs but got 0 inputs for model 'fp32'/, 'inputs'],
    ['with an input that is no object', 'fp32', { inputs: [1] }, 400, /not an object/, 'inputs[0]'],
    [
      'with an input without a name',
      'fp32',
      { inputs: [{ datatype: 'FP32', shape: [1], data: [1] }] },
      400,
      /name is not a string/,
      'inputs[0].name',
    ],
    [
      'with an unknown input',
      'fp32',
      { inputs: [{ name: 'x', datatype: 'FP32', shape: [1], data: [1] }] },
      400,
      /unexpected inference input 'x'/,
      'inputs[0]',
    ],
    [
      'with a datatype that does not exist',
      'fp32',
      input('FLOAT', [1], [1]),
      400,
      /no datatype 'FLOAT'/,
      'inputs[0].datatype',
    ],
    [
      'with another datatype',
      'fp32',
      input('FP64', [1], [1]),
      400,
      /data-type is 'FP64'.*expects 'FP32'/,
      'inputs[0].datatype',
    ],
    [
      'with a shape that is no list',
      'fp32',
      input('FP32', 1 as never, [1]),
      400,
      /unexpected shape/,
      'inputs[0].shape',
    ],
    ['with a negative dimension', 'fp32', input('FP32', [-1], [1]), 400, /unexpected shape/, 'inputs[0].shape'],
    ['with half a dimension', 'fp32', input('FP32', [1.5], [1]), 400, /unexpected shape/, 'inputs[0].shape'],
    ['with another rank', 'fp32', input('FP32', [1, 1], [1]), 400, /unexpected shape/, 'inputs[0].shape'],
    [
      'with an enormous shape',
      'fp32',
      input('FP32', [2 ** 40, 2 ** 40], []),
      400,
      /0 values where its shape needs/,
      'inputs[0].data',
    ],
    ['without values', 'fp32', input('FP32', [1], undefined), 400, /neither data nor binary_data_size/, 'inputs[0]'],
    ['with an object for values', 'fp32', input('FP32', [1], {}), 400, /no list of values/, 'inputs[0].data'],
    ['with too few values', 'fp32', input('FP32', [2], [1]), 400, /1 values where its shape needs 2/, 'inputs[0].data'],
    [
      'with ragged values',
      'matrix',
      input(
        'FP32',
        [2, 3],
        [
          [1, 2],
          [3, 4, 5, 6],
        ],
      ),
      400,
      /not nested as its shape/,
      'inputs[0].data',
    ],
    [
      'with values nested the other way',
      'matrix',
      input(
        'FP32',
        [2, 3],
        [
          [1, 2],
          [3, 4],
          [5, 6],
        ],
      ),
      400,
      /not nested as its shape/,
      'inputs[0].data',
    ],
    [
      'with a list beside a value',
      'matrix',
      input('FP32', [2, 3], [[1, 2, 3], 4]),
      400,
      /not nested as its shape/,
      'inputs[0].data',
    ],
    [
      'with values nested too deep',
      'fp32',
      input('FP32', [1], [[1]]),
      400,
      /not nested as its shape/,
      'inputs[0].data',
    ],
    ['with a BOOL of 1', 'bool', input('BOOL', [1], [1]), 400, /not true or false/, 'inputs[0].data[0]'],
    [
      'with an INT8 of 300',
      'int8',
      input('INT8', [2], [1, 300]),
      400,
      /not an integer that fits INT8/,
      'inputs[0].data[1]',
    ],
    [
      'with an INT8 of 1.5',
      'int8',
      input('INT8', [1], [1.5]),
      400,
      /not an integer that fits INT8/,
      'inputs[0].data[0]',
    ],
    ['with a number for a string', 'bytes', input('BYTES', [1], [1]), 400, /not a string/, 'inputs[0].data[0]'],
    [
      'with half a character',
      'bytes',
      '{"inputs":[{"name":"input","datatype":"BYTES","shape":[1],"data":["\\ud800"]}]}',
      400,
      /not a string/,
      'inputs[0].data[0]',
    ],
    ['with a NUL in a string', 'bytes', input('BYTES', [1], ['a\0']), 400, /NUL/],
    ['with FP16 as JSON', 'fp16', input('FP16', [1], [1]), 400, /FP16.*no JSON form/],
    ['with an id that is a number', 'fp32', { ...good, id: 7 }, 400, /id is not a string/, 'id'],
    ['with an id of 2,000 bytes', 'fp32', { ...good, id: 'x'.repeat(2000) }, 400, /id is longer/, 'id'],
    ['with parameters that are a list', 'fp32', { ...good, parameters: [] }, 400, /not an object/, 'parameters'],
    [
      'with a parameter that is an object',
      'fp32',
      { ...good, parameters: { a: {} } },
      400,
      /parameters.a is not/,
      'parameters.a',
    ],
    [
      'with a timeout that is a word',
      'fp32',
      { ...good, parameters: { timeout: 'soon' } },
      400,
      /timeout/,
      'parameters.timeout',
    ],
    [
      'with a negative priority',
      'fp32',
      { ...good, parameters: { priority: -1 } },
      400,
      /priority/,
      'parameters.priority',
    ],
    [
      'with shared memory',
      'fp32',
      input('FP32', [1], undefined, { parameters: { shared_memory_region: 'r' } }),
      400,
      /shared memory/,
      'inputs[0]',
    ],
    ['with outputs that are no list', 'fp32', { ...good, outputs: {} }, 400, /outputs is not a list/, 'outputs'],
    [
      'for an unknown output',
      'fp32',
      { ...good, outputs: [{ name: 'y' }] },
      400,
      /unexpected inference output 'y'/,
      'outputs[0]',
    ],
    [
      'for one output twice',
      'fp32',
      { ...good, outputs: [{ name: 'output' }, { name: 'output' }] },
      400,
      /requested twice/,
      'outputs[1]',
    ],
    [
      'for a classification',
      'fp32',
      { ...good, outputs: [{ name: 'output', parameters: { classification: 2 } }] },
      400,
      /classification/,
      'outputs[0]',
    ],
    [
      'for an output in shared memory',
      'fp32',
      { ...good, outputs: [{ name: 'output', parameters: { shared_memory_region: 'r' } }] },
      400,
      /shared memory/,
      'outputs[0]',
    ],
    [
      'for binary_data: 1',
      'fp32',
      { ...good, outputs: [{ name: 'output', parameters: { binary_data: 1 } }] },
      400,
      /neither true nor false/,
      'outputs[0].parameters.binary_data',
    ],
    [
      'with more JSON than allowed',
      'fp32',
      input('FP32', [1], [1], { name: 'x'.repeat(60_000) }),
      413,
      /JSON of a request.*larger than 50000 bytes/,
    ],
    ['with a larger body than allowed', 'fp32', 'x'.repeat(150_000), 413, /body is larger than 100000 bytes/],
    ['with a much larger body than allowed', 'fp32', 'x'.repeat(800_000), 413, /body is larger than 100000 bytes/],
  ])('%s', async (_title, model, body, status, error, field) => {
    const answer = await server.post(`/v2/models/${model}/infer`, body)
    expect(answer.json).toMatchObject({ error: expect.stringMatching(error) })
    expect(answer.status).toBe(status)
    if (field !== undefined) expect(answer.json).toMatchObject({ field })
  })

  const binary = (size: unknown) => ({
    inputs: [{ name: 'input', datatype: 'FP32', shape: [1], parameters: { binary_data_size: size } }],
  })
  test.each<[string, string, unknown, number, RegExp]>([
    ['with more binary data than inputs take', 'fp32', binary(4), 5, /1 bytes of binary data belong to no input/],
    ['with less binary data than it says', 'fp32', binary(4), 3, /binary_data_size is 4, but only 3 bytes/],
    [
      'with another size than its shape',
      'fp32',
      binary(3),
      3,
      /input byte size mismatch for input 'input'.*Expected 4, got 3/,
    ],
    ['with a size that is a word', 'fp32', binary('4'), 4, /not a number of bytes/],
    ['with a negative size', 'fp32', binary(-4), 4, /not a number of bytes/],
    [
      'with data in both forms',
      'fp32',
      { inputs: [{ ...binary(4).inputs[0], data: [1] }] },
      4,
      /both data and binary_data_size/,
    ],
    [
      'for FP16 as JSON',
      'fp16',
      { inputs: [{ ...binary(2).inputs[0], datatype: 'FP16' }] },
      2,
      /FP16 of output 'output' has no JSON form/,
    ],
  ])('%s', async (_title, model, json, size, error) => {
    const { body, headers } = binaryBody(json, Buffer.alloc(size))
    const answer = await server.post(`/v2/models/${model}/infer`, body, headers)
    expect([answer.status, answer.json]).toMatchObject([400, { error: expect.stringMatching(error) }])
  })

  test.each(['0', '-1', '1e3', '99999', 'all', '1.5'])('with Inference-Header-Content-Length: %s', async (length) => {
    const answer = await server.post('/v2/models/fp32/infer', good, { 'inference-header-content-length': length })
    expect([answer.status, answer.json]).toMatchObject([400, { field: 'inference-header-content-length' }])
  })
})

test('a name given twice counts as it was given last, and names of prototypes are names like others', async () => {
  const body = `{"__proto__":{"inputs":[]},"id":"a","id":"b","parameters":{"__proto__":{"timeout":1},"constructor":"x","toString":true,"prototype":9007199254740993},
    "inputs":[{"name":"x","name":"input","datatype":"FP32","shape":[1],"data":[7],"__proto__":{"data":[9]},"parameters":{"hasOwnProperty":1.5}}]}`
  const answer = await server.post('/v2/models/fp32/infer', body)
  expect([answer.status, answer.json]).toMatchObject([200, { id: 'b', outputs: [{ data: [7] }] }])
  expect(({} as { timeout?: unknown }).timeout).toBeUndefined()
  expect(Object.keys(Object.prototype)).toEqual([])
})

test('any JSON is answered or refused, never a fault of the server', async () => {
  const key = fc.constantFrom(
    'inputs',
    'outputs',
    'id',
    'parameters',
    'name',
    'shape',
    'datatype',
    'data',
    'binary_data_size',
    '__proto__',
  )
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 4 },
      fc.jsonValue({ maxDepth: 1 }),
      fc.array(tie('tree'), { maxLength: 3 }),
      fc.dictionary(key, tie('tree'), { maxKeys: 5 }),
    ),
  }))
  const change = fc.tuple(fc.constantFrom('name', 'datatype', 'shape', 'data', 'parameters'), tree)
  await fc.assert(
    fc.asyncProperty(fc.oneof(tree, change), async (given) => {
      const body =
        Array.isArray(given) && typeof given[0] === 'string'
          ? { inputs: [{ ...good.inputs[0], [given[0]]: given[1] }] }
          : given
      const { status } = await server.post('/v2/models/fp32/infer', JSON.stringify(body))
      expect([200, 400, 504]).toContain(status)
    }),
    { numRuns: 500 },
  )
})

test('each code has the status that HTTP has for it', () => {
  const status = (code: Code) => statusOf(new Failure(code, 'X', 'x'))
  expect(status(Code.RESOURCE_EXHAUSTED)).toBe(429)
  expect(status(Code.UNAVAILABLE)).toBe(503)
  expect(status(Code.DEADLINE_EXCEEDED)).toBe(504)
  expect(status(Code.UNIMPLEMENTED)).toBe(501)
  expect(statusOf(refusal.quarantined('m', '1'))).toBe(503)
  expect(statusOf(refusal.exampleMismatch('models/m/versions/1', 'it is another value', {}))).toBe(503)
  expect([Code.INTERNAL, Code.UNKNOWN, Code.DATA_LOSS].map(status)).toEqual([500, 500, 500])
})
