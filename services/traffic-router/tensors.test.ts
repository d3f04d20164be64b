import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { elementOf } from '@slipway/onnx'
import { ModelInferRequestSchema, ModelInferResponseSchema } from '@slipway/proto/inference/grpc_service'
import {
  FeatureSource,
  FeatureType,
  MissingPolicy,
  type ModelVersion,
  ModelVersionSchema,
} from '@slipway/proto/slipway/registry/v1/model'
import { Code } from '@slipway/rpc'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Plan, planVersion } from './plan.ts'
import { readOutputs, type Scalar, writeInputs } from './tensors.ts'
import { FieldWriter } from './wire-writer.ts'

type VersionInit = Exclude<MessageInitShape<typeof ModelVersionSchema>, ModelVersion>

const bound = (feature: string, input: string, column: number, type: FeatureType = FeatureType.DOUBLE) => ({
  feature,
  type,
  source: FeatureSource.REQUEST,
  input,
  column,
})

function plan(version: VersionInit): Plan {
  const planned = planVersion(create(ModelVersionSchema, version))
  if ('problem' in planned) throw new Error(planned.problem)
  return planned.plan
}

const problem = (version: VersionInit): string => {
  const planned = planVersion(create(ModelVersionSchema, version))
  return 'problem' in planned ? planned.problem : ''
}

function oneInput(datatype: string, policy: MissingPolicy = MissingPolicy.UNSPECIFIED): VersionInit {
  const type = datatype === 'BYTES' ? FeatureType.STRING : FeatureType.DOUBLE
  return {
    signature: {
      inputs: [{ name: 'x', datatype, shape: [-1n, 2n] }],
      outputs: [{ name: 'y', datatype, shape: [-1n, 2n] }],
    },
    features: [bound('b', 'x', 1, type), bound('a', 'x', 0, type)].map((each) => ({
      ...each,
      missingPolicy: policy,
      defaultValue: 7,
    })),
    outputs: [
      { output: 'second', tensor: 'y', column: 1 },
      { output: 'first', tensor: 'y', column: 0 },
    ],
  }
}

/** The request that rows of `[b, a]` make. */
function request(version: VersionInit, rows: (Scalar | undefined)[][]) {
  const writer = new FieldWriter()
  writeInputs(
    writer,
    plan(version),
    rows.map((values, index) => ({ values, index })),
  )
  return fromBinary(ModelInferRequestSchema, writer.take())
}

const failureOf = (part: () => unknown): unknown => {
  try {
    part()
  } catch (error) {
    return error
  }
  return undefined
}

describe('writeInputs', () => {
  test('features go to their columns, row after row', () => {
    const { inputs, rawInputContents } = request(oneInput('FP32'), [
      [2, 1],
      [4, 3],
    ])
    expect(inputs[0]).toMatchObject({ name: 'x', datatype: 'FP32', shape: [2n, 2n] })
    const raw = Buffer.from(rawInputContents[0] ?? [])
    expect([0, 4, 8, 12].map((at) => raw.readFloatLE(at))).toEqual([1, 2, 3, 4])
  })

  test('every datatype that holds a number takes what fits and refuses what does not, naming the feature', () => {
    const fits: Record<string, [Scalar, Scalar | undefined]> = {
      FP32: [Number.POSITIVE_INFINITY, 1e39],
      FP64: [0.1, undefined],
      BOOL: [1, 2],
      INT8: [-128, 128],
      UINT8: [255, -1],
      INT16: [-32_768, 32_768],
      UINT16: [65_535, 65_536],
      INT32: [-2_147_483_648, 0.5],
      UINT32: [4_294_967_295, 4_294_967_296],
      INT64: [-(2n ** 63n), 2n ** 63n],
      UINT64: [2n ** 64n - 1n, -1n],
    }
    for (const [datatype, [good, bad]] of Object.entries(fits)) {
      const raw = Buffer.from(request(oneInput(datatype), [[good, 1]]).rawInputContents[0] ?? [])
      const element = elementOf(datatype)
      expect(element?.read(raw, element.sizeBytes)).toBe(Number(good))
      if (bad === undefined) continue
      expect(
        failureOf(() =>
          request(oneInput(datatype), [
            [1, 1],
            [bad, 1],
          ]),
        ),
      ).toMatchObject({
        code: Code.INVALID_ARGUMENT,
        violations: [{ field: 'instances[1].features["b"]', description: `does not fit datatype ${datatype}` }],
      })
    }
  })

  test('a missing value is NaN, the default or an error, as the version says', () => {
    const first = (version: VersionInit): number =>
      Buffer.from(request(version, [[1, undefined]]).rawInputContents[0] ?? []).readFloatLE(0)
    expect(first(oneInput('FP32'))).toBeNaN()
    expect(first(oneInput('FP32', MissingPolicy.DEFAULT))).toBe(7)
    for (const version of [oneInput('FP32', MissingPolicy.REFUSE), oneInput('INT32'), oneInput('BYTES')]) {
      const value = version.signature?.inputs?.[0]?.datatype === 'BYTES' ? 'text' : 1
      expect(failureOf(() => request(version, [[value, undefined]]))).toMatchObject({
        code: Code.INVALID_ARGUMENT,
        violations: [{ field: 'instances[0].features["a"]' }],
      })
    }
  })

  test('texts travel with their length, numbers where texts are wanted are refused and the other way round', () => {
    const raw = Buffer.from(request(oneInput('BYTES'), [['ü', 'ab']]).rawInputContents[0] ?? [])
    expect(raw).toEqual(Buffer.from([2, 0, 0, 0, 0x61, 0x62, 2, 0, 0, 0, 0xc3, 0xbc]))
    expect(failureOf(() => request(oneInput('BYTES'), [[1, 'a']]))).toMatchObject({ code: Code.INVALID_ARGUMENT })
    expect(failureOf(() => request(oneInput('FP32'), [['a', 1]]))).toMatchObject({ code: Code.INVALID_ARGUMENT })
  })
})

describe('readOutputs', () => {
  const outputs = (response: MessageInitShape<typeof ModelInferResponseSchema>, datatype: string, rows: number) =>
    readOutputs(
      Buffer.from(toBinary(ModelInferResponseSchema, create(ModelInferResponseSchema, response))),
      plan(oneInput(datatype)),
      rows,
    )

  test('what a model answered is read by name and row, from raw and from typed contents alike', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.float({ noNaN: true }), fc.float({ noNaN: true })), { minLength: 1, maxLength: 8 }),
        (rows) => {
          const values = rows.flat()
          const tensor = { name: 'y', datatype: 'FP32', shape: [BigInt(rows.length), 2n] }
          const expected = rows.flatMap(([first, second]) => [second, first])
          const raw = Buffer.from(new Float32Array(values).buffer)
          expect([...outputs({ outputs: [tensor], rawOutputContents: [raw] }, 'FP32', rows.length).numbers]).toEqual(
            expected,
          )
          const typed = { ...tensor, contents: { fp32Contents: values } }
          expect([...outputs({ outputs: [typed] }, 'FP32', rows.length).numbers]).toEqual(expected)
        },
      ),
    )
  })

  test('texts are read as texts', () => {
    const tensor = { name: 'y', datatype: 'BYTES', shape: [1n, 2n] }
    const raw = Buffer.from([2, 0, 0, 0, 0x61, 0x62, 1, 0, 0, 0, 0x63])
    expect(outputs({ outputs: [tensor], rawOutputContents: [raw] }, 'BYTES', 1).texts).toEqual(['c', 'ab'])
  })

  test('an answer that is not what the version promised is INTERNAL and says what is wrong', () => {
    const tensor = { name: 'y', datatype: 'FP32', shape: [1n, 2n] }
    const wrong = [
      { outputs: [{ ...tensor, name: 'z' }], rawOutputContents: [Buffer.alloc(8)] },
      { outputs: [tensor], rawOutputContents: [Buffer.alloc(4)] },
      { outputs: [tensor] },
      { outputs: [{ ...tensor, datatype: 'FP16' }], rawOutputContents: [Buffer.alloc(4)] },
    ]
    for (const response of wrong)
      expect(failureOf(() => outputs(response, 'FP32', 1))).toMatchObject({
        code: Code.INTERNAL,
        reason: 'MODEL_ANSWER_MISMATCH',
      })
    const text = { outputs: [{ ...tensor, datatype: 'BYTES' }], rawOutputContents: [Buffer.from([1, 0, 0, 0, 0x61])] }
    expect(failureOf(() => outputs(text, 'BYTES', 1))).toMatchObject({ reason: 'MODEL_ANSWER_MISMATCH' })
  })
})

describe('planVersion', () => {
  const inputs = [{ name: 'x', datatype: 'FP32', shape: [-1n, 2n] }]
  const version: VersionInit = { ...oneInput('FP32') }

  test('bindings that leave a column open, bind it twice or name no tensor are a problem with its reason', () => {
    expect(problem({ ...version, features: [bound('a', 'x', 0)] })).toBe('column 1 of input x has no feature')
    expect(problem({ ...version, features: [bound('a', 'x', 0), bound('b', 'x', 0)] })).toContain('bound twice')
    expect(problem({ ...version, features: [...(version.features ?? []), bound('c', 'z', 0)] })).toContain('no input')
    expect(problem({ ...version, features: [] })).toBe('the version has no feature bindings')
    expect(problem({ ...version, outputs: [] })).toBe('the version has no named outputs')
    expect(
      problem({ ...version, signature: { inputs: [{ name: 'x', datatype: 'FP32', shape: [-1n, 3n, 224n] }] } }),
    ).toContain('3 dimensions')
    expect(
      problem({ ...version, signature: { inputs: [{ name: 'x', datatype: 'FP16', shape: [-1n, 2n] }] } }),
    ).toContain('FP16')
    expect(problem({ ...version, features: [bound('a', 'x', 0, FeatureType.STRING), bound('b', 'x', 1)] })).toContain(
      'does not fit',
    )
  })

  test('an input of one value a row is a column of its own', () => {
    const single = plan({
      signature: {
        inputs: [...inputs, { name: 'hour', datatype: 'INT64', shape: [-1n] }],
        outputs: version.signature?.outputs ?? [],
      },
      features: [...(version.features ?? []), bound('hour', 'hour', 0, FeatureType.INT64)],
      outputs: version.outputs ?? [],
    })
    expect(single.inputs.map((input) => [input.name, input.rank, input.features])).toEqual([
      ['x', 2, [1, 0]],
      ['hour', 1, [2]],
    ])
  })
})
