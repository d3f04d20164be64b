import { Failure } from '@slipway/rpc'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { checkPipeline } from './check.ts'
import { readPipeline } from './read.ts'

const pipeline = JSON.stringify({
  inputs: [{ name: 'a', datatype: 'FP32', shape: [-1, 2] }],
  steps: [
    {
      name: 'one',
      expressions: { outputs: [{ name: 'x', datatype: 'FP32', expression: 'input.a.map(v, v + 1.0)[0]' }] },
    },
    {
      name: 'two',
      model: { file: 'steps/m.onnx', inputs: { x: 'one.x' }, where: 'one.x > 0.0', otherwise: { y: '1.0' } },
    },
  ],
  outputs: [{ name: 'y', tensor: 'two.y' }],
})
const models = new Map([
  [
    'steps/m.onnx',
    {
      inputs: [{ name: 'x', datatype: 'FP32' as const, shape: [-1] }],
      outputs: [{ name: 'y', datatype: 'FP32' as const, shape: [-1] }],
    },
  ],
])
const pieces = [
  '"',
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '-1',
  '1e999',
  'null',
  'input.a',
  '.map(',
  '"\\u0000"',
  'a',
  ' ? ',
  '@',
  '\\',
  'é',
]

test('whatever a pipeline.json holds, it is a pipeline or is refused as one that is not', () => {
  const edit = fc.tuple(fc.nat(pipeline.length), fc.nat(20), fc.constantFrom(...pieces))
  let right = 0
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 3 }), (edits) => {
      let text = pipeline
      for (const [at, cut, put] of edits) text = text.slice(0, at) + put + text.slice(at + cut)
      try {
        checkPipeline(readPipeline(Buffer.from(text)), models)
        right++
      } catch (error) {
        expect(error).toBeInstanceOf(Failure)
        expect((error as Failure).reason).toBe('INVALID_PIPELINE')
        expect((error as Failure).violations.length).toBeGreaterThan(0)
      }
    }),
    { numRuns: 3000 },
  )
  expect(right).toBeLessThan(3000)
  expect(() => checkPipeline(readPipeline(Buffer.from(pipeline)), models)).not.toThrow()
})
