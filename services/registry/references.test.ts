import { create, type MessageInitShape } from '@bufbuild/protobuf'
import {
  FeatureBindingSchema,
  FeatureType,
  OutputBindingSchema,
  ReferenceDistributionSchema,
  ReferenceKind,
} from '@slipway/proto/slipway/registry/v1/model'
import { expect, test } from 'vitest'
import { checkReferences } from './references.ts'

type Init = Exclude<MessageInitShape<typeof ReferenceDistributionSchema>, { $typeName: string }>

const features = [
  create(FeatureBindingSchema, { feature: 'distance', type: FeatureType.DOUBLE }),
  create(FeatureBindingSchema, { feature: 'origin', type: FeatureType.STRING }),
]
const outputs = [create(OutputBindingSchema, { output: 'late' })]
const day = { seconds: 86_400n }
const window = (seconds: bigint, counts: bigint[]) => ({ startTime: { seconds }, length: day, counts })
const numeric = (...edges: number[]): NonNullable<Init['cells']> => ({ case: 'numeric', value: { edges } })
const distance = {
  name: 'distance',
  kind: ReferenceKind.FEATURE,
  cells: numeric(0, 1, 2),
  windows: [window(0n, [1n, 2n, 0n, 0n, 0n, 0n]), window(86_400n, [1n, 1n, 0n, 0n, 1n, 0n])],
} satisfies Init
const origin = {
  name: 'origin',
  kind: ReferenceKind.FEATURE,
  cells: { case: 'categorical', value: { values: ['AUS', 'BOS'] } },
  windows: [window(0n, [1n, 2n, 0n, 0n])],
} satisfies Init

function fieldsOf(...distributions: Init[]): string[] {
  const messages = distributions.map((init) => create(ReferenceDistributionSchema, init))
  return checkReferences(messages, features, outputs).map(({ field }) => field.replace('reference_distributions', ''))
}

test('sound distributions of bound features and outputs have no problem, an atom in the last bin included', () => {
  const late: Init = { name: 'late', kind: ReferenceKind.OUTPUT, cells: numeric(0, 1, 1) }
  expect(fieldsOf(distance, origin, late)).toEqual([])
})

const cases: [claim: string, fields: string[], distribution: Init[]][] = [
  ['an unknown feature', ['[0].name'], [{ ...distance, name: 'x' }]],
  ['a feature as an output', ['[0].name'], [{ ...distance, kind: ReferenceKind.OUTPUT }]],
  ['the same feature twice', ['[1].name'], [distance, distance]],
  ['no cells', ['[0].cells'], [{ name: 'distance', kind: ReferenceKind.FEATURE }]],
  ['falling edges', ['[0].numeric.edges'], [{ ...distance, cells: numeric(0, 2, 1) }]],
  ['equal edges before the last', ['[0].numeric.edges'], [{ ...distance, cells: numeric(0, 0, 1) }]],
  ['an infinite edge', ['[0].numeric.edges'], [{ ...distance, cells: numeric(0, 1, Number.POSITIVE_INFINITY) }]],
  ['text in bins', ['[0].numeric'], [{ ...distance, name: 'origin' }]],
  [
    'a category twice',
    ['[0].categorical.values'],
    [{ ...origin, cells: { case: 'categorical', value: { values: ['A', 'A'] } } }],
  ],
  ['too few counts', ['[0].windows[0].counts'], [{ ...distance, windows: [window(0n, [1n, 2n])] }]],
  ['a negative count', ['[0].windows[0].counts'], [{ ...distance, windows: [window(0n, [1n, -2n, 0n, 0n, 0n, 0n])] }]],
  [
    'a window without a start',
    ['[0].windows[0].start_time'],
    [{ ...origin, windows: [{ length: day, counts: [1n, 1n, 1n, 1n] }] }],
  ],
  [
    'a window without a length',
    ['[0].windows[0].length'],
    [{ ...origin, windows: [{ startTime: { seconds: 0n }, counts: [1n, 1n, 1n, 1n] }] }],
  ],
  [
    'windows that overlap',
    ['[0].windows[1].start_time'],
    [{ ...origin, windows: [window(0n, [1n, 1n, 1n, 1n]), window(86_399n, [1n, 1n, 1n, 1n])] }],
  ],
]

test.each(cases)('%s is refused at %j', (_claim, fields, distributions) => {
  expect(fieldsOf(...distributions)).toEqual(fields)
})
