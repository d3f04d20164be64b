import { create, equals, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { GateSchema, GoldenSetSchema, Metric, SignatureSchema } from '@slipway/proto/slipway/registry/v1/model'
import type { BlobStore } from '@slipway/storage'
import { expect, test } from 'vitest'
import { checkGateRules, inputsFor, readGoldenSet } from './golden-set.ts'

type Init = MessageInitShape<typeof GoldenSetSchema>

const tensor = (name: string, shape: bigint[], bytes: number, datatype = 'FP32') => {
  return { name, datatype, shape, raw: new Uint8Array(bytes) }
}
const golden = (init: Init) => create(GoldenSetSchema, init)

async function read(content: Uint8Array, maxBytes = 1000) {
  const blobs = {
    stat: async () => ({ sizeBytes: content.length }),
    read: async function* () {
      yield content
    },
  } satisfies Partial<BlobStore>
  return await readGoldenSet(blobs as unknown as BlobStore, 'sha256:', { field: 'gate.golden_set_digest', maxBytes })
}

test('a sound golden set is read', async () => {
  const init = golden({ inputs: [tensor('x', [2n, 3n], 24), tensor('y', [2n], 8)], labels: [0, 1] })
  expect(equals(GoldenSetSchema, await read(toBinary(GoldenSetSchema, init)), init)).toBe(true)
})

const unsound: [problem: string, init: Init][] = [
  ['has no rows', {}],
  ['has an empty or negative dimension in x', { inputs: [tensor('x', [2n, 0n], 0)] }],
  ['has an input without a name or a shape', { inputs: [tensor('x', [1n], 4), tensor('', [1n], 4)] }],
  ['has 2 rows in one input, 3 in y', { inputs: [tensor('x', [2n], 8), tensor('y', [3n], 12)] }],
  ['holds other bytes than the shape of x says', { inputs: [tensor('x', [2n, 2n], 15)] }],
  ['holds other bytes than the shape of x says', { inputs: [tensor('x', [1n], 4, 'FP33')] }],
  ['has 2 rows but 1 labels', { inputs: [tensor('x', [2n], 8)], labels: [1] }],
]

test.each(unsound)('one that %s is refused', async (problem, init) => {
  await expect(read(toBinary(GoldenSetSchema, golden(init)))).rejects.toThrow(`gate.golden_set_digest: ${problem}`)
})

test('bytes that are no golden set, and too many of them, are refused', async () => {
  await expect(read(Buffer.from('hello'))).rejects.toThrow('is not a GoldenSet message')
  await expect(read(new Uint8Array(11), 10)).rejects.toThrow('has 10 bytes at most, not 11')
})

const labelled = golden({ inputs: [tensor('x', [2n], 8)], labels: [0, 1] })
const gates: [field: string, gate: MessageInitShape<typeof GateSchema>, set: Init][] = [
  ['gate.champion_alias', { championAlias: 'latest' }, labelled],
  ['gate.champion_alias', { championAlias: 'Best One' }, labelled],
  ['gate.metrics[0]', { metrics: [{ metric: Metric.AUC }] }, labelled],
  ['gate.metrics[1].metric', { metrics: [auc(0.5), auc(0.6)] }, labelled],
  ['gate.metrics', { metrics: [auc(0.5)] }, { ...labelled, labels: [] }],
  ['gate.metrics', { metrics: [auc(0.5)] }, { ...labelled, labels: [1, 1] }],
  ['gate.metrics', { metrics: [auc(0.5)] }, { ...labelled, labels: [0, 2] }],
]

test.each(gates)('a rule that cannot work is refused at %s', (field, gate, set) => {
  const violations = checkGateRules(create(GateSchema, gate), golden(set), 'gate')
  expect(violations.map((violation) => violation.field)).toEqual([field])
})

test('rules that can work are not', () => {
  const gate = create(GateSchema, { championAlias: 'best', metrics: [auc(0.5), { metric: Metric.BRIER, margin: 0 }] })
  expect(checkGateRules(gate, labelled, 'gate')).toEqual([])
})

test('a version takes the inputs that it knows, in its own order, from a set that may hold more', () => {
  const set = golden({ inputs: [tensor('x', [2n], 8), tensor('y', [2n, 3n], 24), tensor('z', [2n], 8)] })
  const spec = (name: string, shape: bigint[]) => ({ name, datatype: 'FP32', shape })
  const signature = (...inputs: ReturnType<typeof spec>[]) => create(SignatureSchema, { inputs })
  const chosen = inputsFor(set, signature(spec('y', [-1n, -1n]), spec('x', [-1n])), 'models/a/versions/1')
  expect(chosen.map(({ name }) => name)).toEqual(['y', 'x'])
  for (const wrong of [spec('w', [-1n]), spec('y', [-1n]), spec('y', [-1n, 4n])]) {
    expect(() => inputsFor(set, signature(wrong), 'models/a/versions/1')).toThrow(`takes ${wrong.name} as FP32`)
  }
})

function auc(bound: number) {
  return { metric: Metric.AUC, bound }
}
