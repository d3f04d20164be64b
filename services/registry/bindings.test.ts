import { create } from '@bufbuild/protobuf'
import {
  type FeatureBinding,
  FeatureBindingSchema,
  FeatureSource,
  FeatureType,
  MissingPolicy,
  OutputBindingSchema,
  type Signature,
  SignatureSchema,
} from '@slipway/proto/slipway/registry/v1/model'
import { expect, test } from 'vitest'
import { type Bindings, checkBindings, defaultOutputs } from './bindings.ts'

const signature: Signature = create(SignatureSchema, {
  inputs: [
    { name: 'numbers', datatype: 'FP32', shape: [-1n, 2n] },
    { name: 'count', datatype: 'INT64', shape: [-1n] },
    { name: 'text', datatype: 'BYTES', shape: [-1n, 1n] },
  ],
  outputs: [
    { name: 'label', datatype: 'BYTES', shape: [-1n] },
    { name: 'score', datatype: 'FP32', shape: [-1n, 1n] },
    { name: 'classes', datatype: 'FP32', shape: [-1n, 3n] },
    { name: 'image', datatype: 'FP32', shape: [-1n, 3n, 3n] },
  ],
})

const feature = (name: string, input: string, column: number, type: FeatureType = FeatureType.DOUBLE): FeatureBinding =>
  create(FeatureBindingSchema, { feature: name, input, column, type, source: FeatureSource.REQUEST })

const [distance, hour, seats, origin] = [
  feature('distance', 'numbers', 0),
  feature('hour', 'numbers', 1),
  feature('seats', 'count', 0, FeatureType.INT64),
  feature('origin', 'text', 0, FeatureType.STRING),
]
const output = (name: string, tensor: string, column = 0) =>
  create(OutputBindingSchema, { output: name, tensor, column })
const sound: Bindings = {
  features: [distance, hour, seats, origin],
  outputs: [output('late', 'score'), output('very_late', 'classes', 2)],
  featureService: '',
}
const store = { source: FeatureSource.FEATURE_STORE, reference: 'routes:distance' }

test('bindings that fit have no problem', () => {
  expect(checkBindings(sound, signature)).toEqual([])
  const stored = { ...sound, features: [{ ...distance, ...store }, hour, seats, origin], featureService: 'flights' }
  expect(checkBindings(stored, signature)).toEqual([])
  expect(checkBindings({ ...sound, features: [] }, signature)).toEqual([])
})

const withFirst = (changes: Partial<FeatureBinding>) => ({
  features: [{ ...distance, ...changes }, hour, seats, origin],
})
const withSeats = (changes: Partial<FeatureBinding>) => ({
  features: [distance, hour, { ...seats, ...changes }, origin],
})
const withOrigin = (changes: Partial<FeatureBinding>) => ({
  features: [distance, hour, seats, { ...origin, ...changes }],
})

const cases: [claim: string, field: string, bindings: Partial<Bindings>][] = [
  ['a tensor that the graph has not', 'features[0].input', withFirst({ input: 'x' })],
  ['a column behind the last', 'features[0].column', withFirst({ column: 2 })],
  ['a second column of a tensor of one value a row', 'features[2].column', withSeats({ column: 1 })],
  ['a name twice', 'features[1].feature', { features: [distance, { ...hour, feature: 'distance' }, seats, origin] }],
  ['a column twice', 'features[1].column', { features: [distance, { ...hour, column: 0 }, seats, origin] }],
  ['a column that nothing fills', 'features', { features: [distance, seats, origin] }],
  ['text for numbers', 'features[0].type', withFirst({ type: FeatureType.STRING })],
  ['fractions for integers', 'features[2].type', withSeats({ type: FeatureType.DOUBLE })],
  ['numbers for text', 'features[3].type', withOrigin({ type: FeatureType.INT64 })],
  ['a reference of a feature of the request', 'features[0].reference', withFirst({ reference: 'a:b' })],
  [
    'no reference of a stored feature',
    'features[0].reference',
    { ...withFirst({ ...store, reference: '' }), featureService: 'f' },
  ],
  ['a stored feature without a feature service', 'features[0].source', withFirst(store)],
  ['NaN for an integer', 'features[2].missing_policy', withSeats({ missingPolicy: MissingPolicy.NAN })],
  ['a default for text', 'features[3].missing_policy', withOrigin({ missingPolicy: MissingPolicy.DEFAULT })],
  [
    'a broken default for an integer',
    'features[2].default_value',
    withSeats({ missingPolicy: MissingPolicy.DEFAULT, defaultValue: 0.5 }),
  ],
  ['an output tensor that the graph has not', 'outputs[0].tensor', { outputs: [output('a', 'x')] }],
  ['an output of text', 'outputs[0].tensor', { outputs: [output('a', 'label')] }],
  ['an output column behind the last', 'outputs[0].column', { outputs: [output('a', 'classes', 3)] }],
  ['an output of an image', 'outputs[0].column', { outputs: [output('a', 'image')] }],
  ['an output name twice', 'outputs[1].output', { outputs: [output('a', 'score'), output('a', 'classes')] }],
]

test.each(cases)('%s is refused at %s', (_claim, field, bindings) => {
  const violations = checkBindings({ ...sound, ...bindings }, signature)
  expect(violations.map((violation) => violation.field)).toContain(field)
})

test('a tensor with more columns than anybody could bind is one problem, not a million', () => {
  const wide = create(SignatureSchema, { inputs: [{ name: 'x', datatype: 'FP32', shape: [-1n, 10n ** 15n] }] })
  const violations = checkBindings({ features: [feature('a', 'x', 0)], outputs: [], featureService: '' }, wide)
  expect(violations).toEqual([{ field: 'features', description: 'bind 1 of the 1000000000000000 columns of x' }])
})

test('the outputs of a version that names none are its numbers of one value a row', () => {
  expect(defaultOutputs(signature)).toEqual([{ output: 'score', tensor: 'score', column: 0 }])
})
