import { create, type MessageInitShape } from '@bufbuild/protobuf'
import {
  FeatureType,
  type ReferenceDistribution,
  ReferenceDistributionSchema,
} from '@slipway/proto/slipway/registry/v1/model'
import { describe, expect, test } from 'vitest'
import { drawMarginals, MARGINAL_ROWS } from './marginals.ts'

function distribution(given: MessageInitShape<typeof ReferenceDistributionSchema>): ReferenceDistribution {
  return create(ReferenceDistributionSchema, given)
}

const speed = distribution({
  name: 'speed',
  cells: { case: 'numeric', value: { edges: [0, 10, 20] } },
  windows: [{ counts: [10n, 20n, 0n, 0n, 2n, 1n] }, { counts: [6n, 28n, 0n, 0n, 2n, 9n] }],
})
const city = distribution({
  name: 'city',
  cells: { case: 'categorical', value: { values: ['Bonn', 'Ulm'] } },
  windows: [{ counts: [30n, 10n, 50n, 7n] }],
})
const bound = (feature: string, type: FeatureType) => ({ feature, type })

describe('rows drawn from reference distributions', () => {
  test('hold as many values of each cell as its share says; what is not finite is no value', () => {
    const rows = drawMarginals([bound('speed', FeatureType.DOUBLE)], [speed], 'a') ?? []
    const values = rows.map((row) => row.speed)
    const inside = (low: number, high: number) =>
      values.filter((value) => typeof value === 'number' && value >= low && value < high).length
    expect(rows.length).toBe(MARGINAL_ROWS)
    // 16, 48 and 4 of 68.
    expect(Math.abs(inside(0, 10) - (64 * 16) / 68)).toBeLessThanOrEqual(1)
    expect(Math.abs(inside(10, 20) - (64 * 48) / 68)).toBeLessThanOrEqual(1)
    expect(Math.abs(values.filter((value) => value === null).length - (64 * 4) / 68)).toBeLessThanOrEqual(1)
  })

  test('spread evenly inside a cell', () => {
    const even = distribution({
      name: 'x',
      cells: { case: 'numeric', value: { edges: [0, 64] } },
      windows: [{ counts: [9n] }],
    })
    const values = (drawMarginals([bound('x', FeatureType.DOUBLE)], [even], 'a') ?? []).map((row) => Number(row.x))
    expect(values.toSorted((a, b) => a - b).map(Math.floor)).toEqual(Array.from({ length: 64 }, (_, index) => index))
  })

  test('are texts that were seen, and whole numbers where the feature is one', () => {
    const features = [bound('city', FeatureType.STRING), bound('speed', FeatureType.INT64)]
    const rows = drawMarginals(features, [speed, city], 'a') ?? []
    expect(rows.filter((row) => row.city === 'Bonn').length).toBe(48)
    expect(rows.filter((row) => row.city === 'Ulm').length).toBe(16)
    expect(rows.every(({ speed }) => speed === null || Number.isInteger(speed))).toBe(true)
  })

  test('follow from the seed, each feature in an order of its own', () => {
    const features = [bound('speed', FeatureType.DOUBLE), bound('fast', FeatureType.DOUBLE)]
    const distributions = [speed, { ...speed, name: 'fast' }]
    const draw = (seed: string) => drawMarginals(features, distributions, seed) ?? []
    expect(draw('a')).toEqual(draw('a'))
    expect(draw('a')).not.toEqual(draw('b'))
    const high = draw('a').filter((row) => Number(row.speed) >= 10 && Number(row.fast) >= 10).length
    // Independent: about 64 × (48 / 68)², not 64 × 48 / 68.
    expect(high).toBeGreaterThan(22)
    expect(high).toBeLessThan(42)
  })

  test('are none without a distribution of every feature', () => {
    const features = [bound('speed', FeatureType.DOUBLE), bound('height', FeatureType.DOUBLE)]
    expect(drawMarginals(features, [speed], 'a')).toBeUndefined()
    const empty = { ...speed, windows: [] }
    expect(drawMarginals([bound('speed', FeatureType.DOUBLE)], [empty], 'a')).toBeUndefined()
  })
})
