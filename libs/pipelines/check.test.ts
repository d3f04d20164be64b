import { Failure } from '@slipway/rpc'
import { describe, expect, test } from 'vitest'
import { checkPipeline } from './check.ts'
import { readPipeline } from './read.ts'
import type { Signature } from './step-check.ts'

const models = new Map<string, Signature>([
  [
    'steps/m.onnx',
    {
      inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }],
      outputs: [
        { name: 'y', datatype: 'FP32', shape: [-1, 1] },
        { name: 'z', datatype: 'INT64', shape: [-1, -1] },
      ],
    },
  ],
  [
    'models/image/versions/2',
    {
      inputs: [{ name: 'pixels', datatype: 'FP32', shape: [1, 3] }],
      outputs: [{ name: 'class', datatype: 'INT64', shape: [1] }],
    },
  ],
])

const expressions = (name: string, ...outputs: object[]) => ({ name, expressions: { outputs } })
const output = (name: string, expression: string, change = {}) => ({ name, datatype: 'FP32', expression, ...change })
const model = (name: string, inputs: object, change = {}) => ({
  name,
  model: { file: 'steps/m.onnx', inputs, ...change },
})
const scale = expressions('scale', output('x', '[input.a / 2.0, input.a]', { shape: [-1, 2] }))
const score = model('score', { x: 'scale.x' })
const label = expressions('label', output('text', 'score.y[0] > 0.5 ? "label" : "scale"', { datatype: 'BYTES' }))
const good = {
  inputs: [{ name: 'a', datatype: 'FP32', shape: [-1] }],
  steps: [label, scale, score],
  outputs: [{ name: 'label', tensor: 'label.text' }],
}

const check = (change: object = {}) =>
  checkPipeline(readPipeline(Buffer.from(JSON.stringify({ ...good, ...change }))), models)

function problemsOf(change: object): readonly string[] {
  try {
    check(change)
    return []
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    expect(error.reason).toBe('INVALID_PIPELINE')
    return error.violations.map(({ field, description }) => `${field}: ${description}`)
  }
}

describe('a pipeline that is right', () => {
  test('has its steps in an order in which each comes after those it reads from', () => {
    const { steps, outputs, reads } = check()
    expect(steps.map(({ name }) => name)).toEqual(['scale', 'score', 'label'])
    expect(outputs).toEqual([
      { spec: { name: 'label', datatype: 'BYTES', shape: [-1] }, tensor: { step: 'label', output: 'text' } },
    ])
    expect([...(reads.get('label') ?? [])]).toEqual(['score'])
  })

  test('may run a model on tensors without rows', () => {
    const image = {
      name: 'classify',
      model: {
        version: { name: 'models/image/versions/2', digest: `sha256:${'0'.repeat(64)}` },
        inputs: { pixels: 'input.a' },
      },
    }
    const { outputs } = check({
      inputs: [{ name: 'a', datatype: 'FP32', shape: [1, 3] }],
      steps: [image],
      outputs: [{ name: 'class', tensor: 'classify.class' }],
    })
    expect(outputs[0]?.spec).toEqual({ name: 'class', datatype: 'INT64', shape: [1] })
  })

  test('may answer with what it was sent', () => {
    expect(problemsOf({ outputs: [...good.outputs, { name: 'a', tensor: 'input.a' }] })).toEqual([])
  })
})

describe('a pipeline that is wrong is refused with every problem, by its field', () => {
  const cases: readonly [string, object, readonly string[]][] = [
    ['an unknown field', { stepz: [] }, ['pipeline.json: is not a slipway.inference.v1.Pipeline in JSON']],
    ['no steps', { steps: [] }, ['steps: must contain at least 1 item(s)']],
    ['a name that is none', { steps: [{ ...scale, name: 'Scale' }] }, ['steps[0].name: does not match']],
    [
      'a step named input',
      { steps: [...good.steps, { ...scale, name: 'input' }] },
      ["steps[3].name: 'input' stands for the caller"],
    ],
    ['a word of CEL', { steps: [...good.steps, { ...scale, name: 'in' }] }, ["steps[3].name: 'in' is a word of CEL"]],
    ['a step twice', { steps: [...good.steps, scale] }, ["steps[3].name: step 'scale' is there twice"]],
    [
      'steps that wait for each other',
      { steps: [...good.steps, expressions('p', output('x', 'q.x')), expressions('q', output('x', 'p.x'))] },
      ["steps[3]: step 'p' waits for itself: p, q read each other", "steps[4]: step 'q' waits for itself"],
    ],
    [
      'a step that nobody needs',
      { steps: [...good.steps, expressions('more', output('x', 'input.a'))] },
      ["steps[3]: step 'more': no output needs it"],
    ],
    [
      'an input that nobody reads',
      { inputs: [...good.inputs, { name: 'b', datatype: 'FP32', shape: [-1] }] },
      ["inputs[1]: nothing reads input 'b'"],
    ],
    [
      'a datatype that is none',
      { inputs: [{ name: 'a', datatype: 'FLOAT', shape: [-1] }] },
      ["inputs[0].datatype: 'FLOAT' is not"],
    ],
    [
      'a datatype that no runtime carries',
      { inputs: [{ name: 'a', datatype: 'BF16', shape: [-1] }] },
      ["inputs[0].datatype: 'BF16' is not"],
    ],
    [
      'an output of nothing',
      { outputs: [{ name: 'l', tensor: 'label.txt' }] },
      ["outputs[0].tensor: there is no tensor 'label.txt'"],
    ],
    [
      'an unknown tensor',
      { steps: [label, scale, model('score', { x: 'scale.q' })] },
      ["steps[2].model.inputs.x: step 'score': there is no tensor 'scale.q'"],
    ],
    [
      'another shape',
      { steps: [label, scale, model('score', { x: 'input.a' })] },
      ["steps[2].model.inputs.x: step 'score': takes FP32[-1, 2], but 'input.a' is FP32[-1]"],
    ],
    [
      'an input that is missing',
      { steps: [label, scale, model('score', { w: 'scale.x' })] },
      [
        "steps[2].model.inputs: step 'score': the model's input 'x' is given nothing",
        "steps[2].model.inputs.w: step 'score': the model has no such input",
      ],
    ],
    [
      'an output that the model has not',
      { steps: [label, scale, { ...score, model: { ...score.model, outputs: ['y', 'q'] } }] },
      ["steps[2].model.outputs[1]: step 'score': the model has no output 'q'"],
    ],
    [
      'no such model',
      { steps: [label, scale, { ...score, model: { ...score.model, file: 'steps/n.onnx' } }] },
      ["steps[2].model.file: step 'score': there is no steps/n.onnx"],
    ],
    [
      'another type than the datatype',
      {
        steps: [
          { ...label, expressions: { outputs: [output('text', 'score.y[0]', { datatype: 'BYTES' })] } },
          scale,
          score,
        ],
      },
      ["steps[0].expressions.outputs[0].expression: step 'label': gives double, but BYTES[-1] takes string a row"],
    ],
    [
      'a whole number where the tensor holds others',
      { steps: [label, expressions('scale', output('x', '[1, 2 + int(input.a)]', { shape: [-1, 2] })), score] },
      [
        "steps[1].expressions.outputs[0].expression: step 'scale': gives list(int), but FP32[-1, 2] takes list(double) a row: convert it, as in double(…)",
      ],
    ],
    [
      'a type that is not known',
      { steps: [label, expressions('scale', output('x', 'dyn([input.a, 1.0])', { shape: [-1, 2] })), score] },
      ["steps[1].expressions.outputs[0].expression: step 'scale': gives dyn, but"],
    ],
    [
      'an expression that reads nothing',
      {
        steps: [label, expressions('scale', output('x', '[1.0, 2.0]', { shape: [-1, 2] })), score],
        outputs: [...good.outputs, { name: 'a', tensor: 'input.a' }],
      },
      ["steps[1].expressions.outputs[0].expression: step 'scale': reads no tensor, so it has no rows"],
    ],
    [
      'a condition that is none',
      { steps: [label, scale, model('score', { x: 'scale.x' }, { where: 'input.a', outputs: ['y'] })] },
      ["steps[2].model.where: step 'score': gives double, not bool"],
    ],
    [
      'a condition on an output without a size',
      { steps: [label, scale, model('score', { x: 'scale.x' }, { where: 'input.a > 0.0' })] },
      ["steps[2].model.where: step 'score': output 'z' has no fixed size: INT64[-1, -1]"],
    ],
    [
      'values for rows that no condition leaves out',
      { steps: [label, scale, model('score', { x: 'scale.x' }, { otherwise: { y: '0.0' } })] },
      ["steps[2].model.otherwise.y: step 'score': stands for rows that `where` leaves out"],
    ],
    [
      'an expression that may cost too much',
      {
        inputs: [{ name: 'a', datatype: 'FP32', shape: [-1, 200] }],
        steps: [expressions('slow', output('x', 'input.a.map(x, input.a.map(y, x * y).sum()).sum()'))],
        outputs: [{ name: 'x', tensor: 'slow.x' }],
      },
      ["steps[0].expressions.outputs[0].expression: step 'slow': a row may cost"],
    ],
  ]
  test.each(cases)('%s', (_, change, expected) => {
    const problems = problemsOf(change)
    expect(problems).toHaveLength(expected.length)
    for (const [index, text] of expected.entries()) expect(problems[index]).toContain(text)
  })
})
