import { fromBinary } from '@bufbuild/protobuf'
import { BackgroundRowsSchema } from '@slipway/proto/slipway/registry/v1/background'
import { MissingPolicy } from '@slipway/proto/slipway/registry/v1/model'
import { describe, expect, test } from 'vitest'
import { drawBackground } from './background.ts'
import { FeatureValueError, featureTensors } from './feature-tensors.ts'
import type { TrainingRow } from './reference-distributions.ts'

const inputs = [
  { name: 'numbers', datatype: 'FP32', shape: [-1n, 2n] },
  { name: 'text', datatype: 'BYTES', shape: [-1n] },
]
const bound = (
  feature: string,
  input: string,
  column: number,
  missingPolicy: MissingPolicy = MissingPolicy.UNSPECIFIED,
) => {
  return { feature, input, column, missingPolicy, defaultValue: -1 }
}
const features = [
  bound('b', 'numbers', 1, MissingPolicy.DEFAULT),
  bound('a', 'numbers', 0),
  bound('city', 'text', 0, MissingPolicy.REFUSE),
]

function* rows(count: number): Generator<TrainingRow> {
  for (let row = 0; row < count; row++) yield { timeMicros: 0n, values: { a: row, b: -row, city: `c${row}` } }
}

async function drawn(count: number, seed: number): Promise<number[]> {
  const bytes = await drawBackground({ inputs, features, rows: rows(count), maxRows: 8, seed })
  const { inputs: tensors } = fromBinary(BackgroundRowsSchema, bytes)
  const raw = tensors[0]?.raw ?? new Uint8Array()
  return [...new Float32Array(Uint8Array.from(raw).buffer)].filter((_, index) => index % 2 === 0)
}

describe('feature values in tensors', () => {
  test('stand in the columns that they are bound to, whatever the order of the bindings', () => {
    const [numbers, text] = featureTensors(inputs, features, [{ a: 1, b: 2n, city: 'é' }])
    expect([...new Float32Array(Uint8Array.from(numbers?.raw ?? []).buffer)]).toEqual([1, 2])
    expect(numbers?.shape).toEqual([1n, 2n])
    expect(Buffer.from(text?.raw ?? [])).toEqual(Buffer.from([2, 0, 0, 0, 0xc3, 0xa9]))
    expect(text?.shape).toEqual([1n])
  })

  test('that are missing are NaN, the default, or refused, as the version says', () => {
    const [numbers] = featureTensors(inputs, features, [{ city: '' }])
    expect([...new Float32Array(Uint8Array.from(numbers?.raw ?? []).buffer)]).toEqual([Number.NaN, -1])
    expect(() => featureTensors(inputs, features, [{ a: 1, b: 1 }])).toThrow(FeatureValueError)
  })

  test.each([
    [{ a: 'x', b: 1, city: 'x' }, 'a of row 0 is a text'],
    [{ a: 1e39, b: 1, city: 'x' }, 'a of row 0 does not fit'],
    [{ a: 1, b: 1, city: 3 }, 'city of row 0 is a number'],
  ])('%j is refused', (row, problem) => expect(() => featureTensors(inputs, features, [row])).toThrow(problem))

  test('cannot fill a column that nothing is bound to', () => {
    expect(() => featureTensors(inputs, features.slice(1), [])).toThrow('input numbers has columns')
  })
})

describe('background rows', () => {
  test('are drawn from all rows alike, by the seed', async () => {
    expect(await drawn(100, 1)).toEqual(await drawn(100, 1))
    expect(await drawn(100, 1)).not.toEqual(await drawn(100, 2))
    const counts = new Array(20).fill(0)
    for (let seed = 0; seed < 500; seed++) for (const row of await drawn(20, seed)) counts[row]++
    for (const count of counts) expect(Math.abs(count - 200)).toBeLessThan(60)
  })

  test('are all rows when there are fewer', async () => {
    expect((await drawn(5, 1)).toSorted()).toEqual([0, 1, 2, 3, 4])
  })

  test('pass over what the version would refuse', async () => {
    const some = [{ timeMicros: 0n, values: { a: 1, b: 1 } }, ...rows(1)]
    const bytes = await drawBackground({ inputs, features, rows: some, seed: 1 })
    expect(fromBinary(BackgroundRowsSchema, bytes).inputs[0]?.shape).toEqual([1n, 2n])
    await expect(drawBackground({ inputs, features, rows: [], seed: 1 })).rejects.toThrow('no row')
  })
})
