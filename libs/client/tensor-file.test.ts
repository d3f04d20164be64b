import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fromBinary } from '@bufbuild/protobuf'
import { exampleFile } from '@slipway/models'
import { ModelInferRequestSchema, ModelInferResponseSchema } from '@slipway/proto/inference/grpc_service'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { UsageError } from './command.ts'
import { readExample, readInputs } from './commands/tensor-file.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'slipway-example-'))
})
afterEach(() => rm(directory, { recursive: true }))

async function file(name: string, content: unknown): Promise<string> {
  const path = join(directory, name)
  await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content))
  return path
}

const input = (change: object = {}) => ({
  inputs: [
    {
      name: 'x',
      datatype: 'FP32',
      shape: [2, 2],
      data: [
        [1, 2],
        [3, null],
      ],
      ...change,
    },
  ],
})

test('a request and an answer as over HTTP become the two messages', async () => {
  const outputs = [{ name: 'y', datatype: 'INT64', shape: [1], data: [7] }]
  const answer = await file('answer.json', { outputs, parameters: { relative_tolerance: 0.5 } })
  const files = await readExample(await file('request.json', input()), answer)
  const request = fromBinary(ModelInferRequestSchema, files[exampleFile.request] ?? new Uint8Array())
  const [raw] = request.rawInputContents.map((bytes) => Buffer.from(bytes))
  expect([0, 4, 8, 12].map((at) => raw?.readFloatLE(at))).toEqual([1, 2, 3, Number.NaN])
  const response = fromBinary(ModelInferResponseSchema, files[exampleFile.response] ?? new Uint8Array())
  expect(Buffer.from(response.rawOutputContents[0] ?? []).readBigInt64LE()).toBe(7n)
  expect(response.parameters.relative_tolerance?.parameterChoice.value).toBe(0.5)
})

test.each<[string, unknown, RegExp]>([
  ['no JSON', 'x', /cannot be read/],
  ['no object', [], /holds no JSON object/],
  ['no inputs', {}, /"inputs" must list the tensors/],
  ['no datatype', input({ datatype: 1 }), /inputs\[0\] needs a name and a datatype/],
  ['a shape with a hole', input({ shape: [2, -1] }), /inputs\[0\].shape must list the sizes/],
  ['too few values', input({ data: [1] }), /x has 1 values, its shape wants 4/],
  ['an object among the values', input({ data: [1, 2, 3, {}] }), /inputs\[0\].data holds what is no value/],
])('%s is told with the file', async (_, content, message) => {
  const path = await file('request.json', content)
  for (const read of [() => readExample(path, undefined), () => readInputs(path)]) {
    const reading = read()
    await expect(reading).rejects.toThrow(UsageError)
    await expect(reading).rejects.toThrow(message)
    await expect(reading).rejects.toThrow('request.json')
  }
})
